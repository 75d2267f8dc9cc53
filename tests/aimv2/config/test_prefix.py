import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aimv2.config.prefix import PrefixDistribution, prefix_len_at

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
    return distribution.draw(seed=seed, epoch_B=epochs, sample_id_B=ids, step=0, num_patches=num_patches)


def test_uniform_figure1_counts_0_as_1():
    counts = np.bincount(draw(PrefixDistribution(law="uniform_figure1"), 5000, 16), minlength=16)
    expected = 5000 * np.array([2, *[1] * 14]) / 16
    assert stats.chisquare(counts[1:], expected).pvalue > 1e-3


@pytest.mark.parametrize("num_patches", [2, 16, 256])
def test_uniform_draws_are_uniform(num_patches):
    lengths = draw(PrefixDistribution(), 5000, num_patches)
    counts = np.bincount(lengths, minlength=num_patches)
    assert counts[0] == 0
    assert len(counts) == num_patches, "a prefix as long as the image leaves no patch to predict"
    if num_patches > 2:
        assert stats.chisquare(counts[1:]).pvalue > 1e-3


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


def test_truncated_is_uniform_between_its_ends():
    pmf = PrefixDistribution(law="truncated", low=0.25, high=0.75).pmf(16)
    np.testing.assert_allclose(pmf, [0] * 3 + [1 / 9] * 9 + [0] * 4)


def test_full_attention_mixes_with_any_distribution():
    distribution = PrefixDistribution(law="truncated", low=0.25, high=0.75, full_attention=0.2)
    plain = PrefixDistribution(law="truncated", low=0.25, high=0.75)
    np.testing.assert_allclose(distribution.pmf(16), 0.8 * plain.pmf(16) + 0.2 * np.eye(16)[15])


def test_per_batch_draws_once_per_step():
    distribution = PrefixDistribution(per="batch")
    ids, epochs = np.arange(8), np.zeros(8, dtype=int)
    lengths = []
    for step in range(2000):
        drawn = distribution.draw(seed=0, epoch_B=epochs, sample_id_B=ids, step=step, num_patches=16)
        assert len(set(drawn)) == 1
        lengths.append(drawn[0])
    assert stats.chisquare(np.bincount(lengths, minlength=16)[1:]).pvalue > 1e-3


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
@given(num_patches=st.integers(2, 300), first_id=st.integers(0, 2**60))
def test_draws_leave_a_patch_unless_attention_is_full(distribution, num_patches, first_id):
    ids = first_id + np.arange(20)
    lengths = distribution.draw(
        seed=0, epoch_B=np.zeros(20, dtype=int), sample_id_B=ids, step=3, num_patches=num_patches
    )
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


@pytest.mark.parametrize(("fraction", "expected"), [(0.25, 4), (0.5, 8), (0.75, 12), (0.001, 1), (0.999, 15)])
def test_fixed_always_draws_its_length(fraction, expected):
    assert set(draw(PrefixDistribution(law="fixed", fraction=fraction), 500, 16)) == {expected}
    assert prefix_len_at(fraction, 16) == expected


def test_causal_always_draws_1():
    assert set(draw(PrefixDistribution(law="causal"), 500, 16)) == {1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"law": "fixed", "fraction": 0}, "fraction\n.*greater than 0"),
        ({"law": "fixed"}, "prefix.law=fixed needs prefix.fraction"),
        (
            {"law": "uniform", "fraction": 0.5},
            "prefix.law=uniform has no fraction; prefix.fraction belongs to prefix.law=fixed",
        ),
        ({"law": "beta", "alpha": 1}, "prefix.law=beta needs prefix.beta"),
        ({"law": "truncated"}, "prefix.law=truncated needs prefix.low and prefix.high"),
        ({"law": "truncated", "low": 0.5, "high": 0.25}, "low=0.5 must not exceed high=0.25"),
        ({"full_attention": 1}, "full_attention\n.*less than 1"),
    ],
)
def test_invalid_parameters_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        PrefixDistribution(**values)


def test_pmf_needs_two_patches():
    with pytest.raises(ValueError, match="at least 2"):
        PrefixDistribution().pmf(1)


@pytest.mark.parametrize("per", ["image", "batch"])
def test_images_of_other_sizes_have_the_prefix_lengths_of_their_own(per):
    """Oracle: each image drawn as if all had its size."""
    own_B, distribution = np.array([5, 9, 5, 300, 2]), PrefixDistribution(per=per)
    address = {"seed": 3, "epoch_B": np.zeros(5, int), "sample_id_B": np.arange(5), "step": 7}
    found = distribution.draw(**address, num_patches=own_B)
    assert found.dtype == np.int64
    for row, own in enumerate(own_B.tolist()):
        assert found[row] == distribution.draw(**address, num_patches=own)[row]
