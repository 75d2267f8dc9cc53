import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.prefix import PrefixDistribution

DISTRIBUTIONS = [
    PrefixDistribution(),
    PrefixDistribution(law="uniform_figure1"),
    PrefixDistribution(law="causal"),
    *(PrefixDistribution(law="fixed", fraction=f) for f in (0.01, 0.25, 0.5, 0.75, 0.99)),
    PrefixDistribution(law="beta", alpha=1, beta=3),
    PrefixDistribution(law="beta", alpha=0.3, beta=0.2),
    PrefixDistribution(law="truncated", low=0.25, high=0.75),
    PrefixDistribution(law="truncated", low=0, high=1),
    PrefixDistribution(full_attention=0.3),
    PrefixDistribution(law="fixed", fraction=0.5, full_attention=0.9),
    PrefixDistribution(law="beta", alpha=3, beta=1, full_attention=0.1, per="batch"),
]


def draw(distribution, num_images, num_patches, *, seed=0, epoch=0):
    ids = np.arange(num_images)
    epochs = np.full(num_images, epoch)
    return distribution.draw(seed=seed, epoch_B=epochs, sample_id_B=ids, step=0, num_steps=1, num_patches=num_patches)


def test_uniform_figure1_counts_0_as_1():
    counts = np.bincount(draw(PrefixDistribution(law="uniform_figure1"), 5000, 16), minlength=16)
    expected = 5000 * np.array([2, *[1] * 14]) / 16
    assert stats.chisquare(counts[1:], expected).pvalue > 1e-3


def test_draws_of_epochs_and_seeds_are_independent():
    first = draw(PrefixDistribution(), 5000, 16)
    for other in (draw(PrefixDistribution(), 5000, 16, epoch=1), draw(PrefixDistribution(), 5000, 16, seed=1)):
        table = np.histogram2d(first, other, bins=[range(1, 17)] * 2)[0]
        assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("distribution", [one for one in DISTRIBUTIONS if one.per == "image"], ids=str)
@pytest.mark.parametrize("num_patches", [4, 100])
def test_draws_follow_the_pmf(distribution, num_patches):
    counts = np.bincount(draw(distribution, 5000, num_patches), minlength=num_patches + 1)[1:]
    expected = 5000 * distribution.pmf(num_patches)
    assert not counts[expected == 0].any()
    order = np.argsort(expected)  # bins that are seldom hit are counted together
    group = np.minimum(np.cumsum(expected[order]) // 10, 30).astype(int)
    observed, wanted = (np.bincount(group, values[order]) for values in (counts, expected))
    kept = wanted > 0
    if kept.sum() > 1:
        assert stats.chisquare(observed[kept], wanted[kept]).pvalue > 1e-3


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (1, 3), (3, 1), (2, 5)])
def test_beta_pmf_is_the_density_summed_over_bins(alpha, beta):
    """Oracle: a fine Riemann sum over each bin of scipy's density."""
    fine = (np.arange(15 * 4000) + 0.5) / (15 * 4000)
    expected = stats.beta(alpha, beta).pdf(fine).reshape(15, 4000).mean(axis=1) / 15
    np.testing.assert_allclose(PrefixDistribution(law="beta", alpha=alpha, beta=beta).pmf(16)[:-1], expected, rtol=1e-4)


def test_full_attention_mixes_with_any_distribution():
    distribution = PrefixDistribution(law="truncated", low=0.25, high=0.75, full_attention=0.2)
    plain = PrefixDistribution(law="truncated", low=0.25, high=0.75)
    np.testing.assert_allclose(distribution.pmf(16), 0.8 * plain.pmf(16) + 0.2 * np.eye(16)[15])


def test_per_batch_draws_once_per_step():
    distribution = PrefixDistribution(per="batch")
    lengths, address = [], {"seed": 0, "epoch_B": np.zeros(8, dtype=int), "sample_id_B": np.arange(8)}
    for step in range(2000):
        drawn = distribution.draw(**address, step=step, num_steps=2000, num_patches=16)
        assert len(set(drawn)) == 1
        lengths.append(drawn[0])
    assert stats.chisquare(np.bincount(lengths, minlength=16)[1:]).pvalue > 1e-3


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
@given(num_patches=st.integers(2, 300), first_id=st.integers(0, 2**60))
def test_draws_leave_a_patch_unless_attention_is_full(distribution, num_patches, first_id):
    address = {"seed": 0, "epoch_B": np.zeros(20, dtype=int), "sample_id_B": first_id + np.arange(20)}
    lengths = distribution.draw(**address, step=3, num_steps=9, num_patches=num_patches)
    assert lengths.min() >= 1
    assert lengths.max() <= num_patches - (not distribution.full_attention)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
@given(num_patches=st.integers(2, 300))
def test_pmf_sums_to_one(distribution, num_patches):
    pmf = distribution.pmf(num_patches)
    assert pmf.shape == (num_patches,)
    assert pmf[-1] == distribution.full_attention
    assert pmf.min() >= 0
    assert pmf.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"law": "fixed", "fraction": 0}, "fraction\n.*greater than 0"),
        ({"law": "fixed"}, "prefix.law=fixed needs prefix.fraction"),
        ({"fraction": 0.5}, "prefix.law=uniform has no fraction; prefix.fraction belongs to prefix.law=fixed"),
        ({"parameters": {"start": 1}}, r"prefix\.law=uniform has no prefix\.parameters\.start"),
        ({"law": "beta", "alpha": 1}, "prefix.law=beta needs prefix.beta"),
        ({"law": "truncated"}, "prefix.law=truncated needs prefix.low and prefix.high"),
        ({"law": "truncated", "low": 0.5, "high": 0.25}, "low=0.5 must not exceed high=0.25"),
        ({"full_attention": 1}, "full_attention\n.*less than 1"),
    ],
)
def test_invalid_parameters_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        PrefixDistribution(**values)


@pytest.mark.parametrize("per", ["image", "batch"])
def test_images_of_other_sizes_have_the_prefix_lengths_of_their_own(per):
    """Oracle: each image drawn as if all had its size."""
    own_B, distribution = np.array([5, 9, 5, 300, 2]), PrefixDistribution(per=per)
    address = {"seed": 3, "epoch_B": np.zeros(5, int), "sample_id_B": np.arange(5), "step": 7, "num_steps": 9}
    found = distribution.draw(**address, num_patches=own_B)
    assert found.dtype == np.int64
    for row, own in enumerate(own_B.tolist()):
        assert found[row] == distribution.draw(**address, num_patches=own)[row]


IMPORTS = "from aimv2.config.prefix import prefix_distribution\nimport numpy as np\n@prefix_distribution\n"
CURRICULUM = f"""{IMPORTS}
def ramp(num_patches, progress, start, end=1.0, shape="linear"):
    lengths = np.arange(1, num_patches)
    longest = 1 + (num_patches - 2) * (start + (end - start) * progress)
    return (lengths == round(longest)).astype(float)
"""


def test_a_curriculum_of_a_plugin_depends_on_progress_and_on_nothing_else(plugged):
    plugged(CURRICULUM)
    ramp = PrefixDistribution(law="ramp", parameters={"start": 0})
    ids = {"seed": 0, "epoch_B": np.zeros(4, int), "sample_id_B": np.arange(4)}
    for step in range(10):
        drawn = ramp.draw(**ids, step=step, num_steps=10, num_patches=16)
        assert set(drawn) == {round(1 + 14 * step / 10)}
    average = ramp.pmf(16)
    assert average.sum() == pytest.approx(1)
    assert average @ np.arange(1, 17) == pytest.approx(8, abs=0.1), "prices are of the average over the training"
    assert ramp.pmf(16, 1.0)[14] == 1


def test_a_plugin_shares_the_uniform_numbers_of_ours(plugged):
    """Oracle: our own distribution of the same probabilities."""
    plugged(f"{IMPORTS}def even(num_patches):\n    return np.full(num_patches - 1, 1 / (num_patches - 1))\n")
    for full_attention in (0, 0.3):
        own, ours = (PrefixDistribution(law=law, full_attention=full_attention) for law in ("even", "uniform"))
        assert (own.pmf(16) == ours.pmf(16)).all()
        assert (draw(own, 200, 16) == draw(ours, 200, 16)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "prefix.law=ramp needs prefix.parameters.start"),
        ({"start": 0, "ned": 1}, "unknown parameter of prefix.law=ramp 'ned'. Did you mean 'end'?"),
        ({"start": 0, "end": "one"}, "prefix.parameters.end='one' is not a number"),
        ({"start": 0, "shape": 1}, "prefix.parameters.shape=1.0 is not text"),
    ],
)
def test_parameters_of_a_plugin_are_checked_before_the_plan(plugged, parameters, message):
    plugged(CURRICULUM)
    with pytest.raises(UsageError, match=re.escape(message)):
        PrefixDistribution(law="ramp", parameters=parameters).check(16)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("np.full(15, -1/15)", "returns the negative probability -0.0667, at num_patches=16, progress=0.5"),
        ("np.full(15, np.nan)", "returns probabilities that are not finite"),
        ("np.full(15, 0.1)", "returns probabilities that sum to 1.5 instead of 1"),
        ("np.full(16, 1/16)", "returns an array of shape [16] instead of [15], one for each prefix length"),
        ("0.5", "returns an array of shape [] instead of [15]"),
        ("'uniform'", "fails at num_patches=16, progress=0.5: ValueError: could not convert string"),
        ("1 / 0", "fails at num_patches=16, progress=0.5: ZeroDivisionError: division by zero"),
    ],
)
def test_what_are_no_probabilities_is_one_sentence_before_the_plan_and_fails_a_run(plugged, returned, message):
    result = f"np.full(15, 1/15) if progress != 0.5 else {returned}"
    plugged(f"{IMPORTS}def bad(num_patches, progress):\n    return {result}\n")
    bad = PrefixDistribution(law="bad")
    with pytest.raises(UsageError, match=re.escape(f"prefix.law=bad {message}")):
        bad.check(16)
    ids = {"seed": 0, "epoch_B": np.zeros(4, int), "sample_id_B": np.arange(4), "num_patches": 16}
    assert bad.draw(**ids, step=0, num_steps=2).shape == (4,)
    with pytest.raises(RunFailedError, match=re.escape(f"prefix.law=bad {message}")) as caught:
        bad.draw(**ids, step=1, num_steps=2)
    assert caught.value.cause == "bug"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("def own():", "the arguments of own are num_patches, then progress if it is a curriculum, then parameters"),
        ("def own(patches):", "the arguments of own are num_patches"),
        ("def own(num_patches, *more):", "the arguments of own are num_patches"),
        ("def uniform(num_patches):", "the prefix.law 'uniform' exists already, built in"),
    ],
)
def test_what_is_no_distribution_is_one_sentence(plugged, line, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        plugged(f"{IMPORTS}{line}\n    return 1\n")


def test_a_record_can_be_read_without_its_plugin_and_not_be_run():
    ramp = PrefixDistribution(law="ramp", parameters={"start": 0.5})
    with pytest.raises(UsageError, match=r"unknown prefix\.law 'ramp'"):
        ramp.check(16)
