"""Prefix lengths against their distribution, and draws that are wrong."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from aimv2.analysis.verify.prefix import chi_square, prefix_lengths
from aimv2.config.prefix import PrefixDistribution

DISTRIBUTIONS = {
    "uniform": {},
    "figure 1": {"law": "uniform_figure1"},
    "beta": {"law": "beta", "alpha": 1.0, "beta": 3.0},
    "truncated": {"law": "truncated", "low": 0.25, "high": 0.5},
    "half full": {"full_attention": 0.5},
    "per batch": {"per": "batch"},
}


@pytest.mark.parametrize("kind", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_every_distribution_passes_on_its_own_draws(variant, kind):
    found = prefix_lengths(variant(prefix=kind))
    assert found.check.verdict == "PASS", found.check
    assert "chi-square" in found.check.found
    assert found.count_I.sum() == (200 if kind.get("per") == "batch" else 6400)


def test_lengths_of_a_mixture_are_drawn_at_its_samples(variant):
    found = prefix_lengths(variant(data=replace(variant().config.data, weights=(1, 3))))
    assert found.check.verdict == "PASS", found.check


@pytest.mark.parametrize(("law", "length"), [({"law": "fixed", "fraction": 0.5}, 8), ({"law": "causal"}, 1)])
def test_distribution_of_one_length_passes_without_a_test(variant, law, length):
    check = prefix_lengths(variant(prefix=law)).check
    assert check.verdict == "PASS"
    assert f"all draws are {length} of 16" in check.found


UNREAD = {
    "clip": {"objective": {"name": "clip"}, "encoder": {"attention": "auto"}},
    "cappa": {"objective": {"name": "cappa"}, "encoder": {"attention": "auto"}},
    "caption, causal": {"objective": {"name": "caption"}, "encoder": {"attention": "causal"}},
}
READ = {
    "caption, prefix": {"objective": {"name": "caption"}},
    "clip, prefix": {"objective": {"name": "clip"}},
    "pixels, causal": {"encoder": {"attention": "causal"}},
    "pixels, bidirectional": {"encoder": {"attention": "bidirectional"}},
}


@pytest.mark.parametrize("kind", UNREAD.values(), ids=UNREAD)
def test_lengths_that_are_not_read_are_not_applicable(variant, kind):
    found = prefix_lengths(variant(**kind))
    assert found.check.verdict == "NOT APPLICABLE"
    assert "nothing reads prefix lengths" in found.check.found
    assert not found.count_I.any()


@pytest.mark.parametrize("kind", READ.values(), ids=READ)
def test_lengths_that_a_mask_or_a_loss_reads_are_tested(variant, kind):
    assert prefix_lengths(variant(**kind)).check.verdict == "PASS"


def test_counts_are_those_of_the_batches(variant):
    run = variant(budget=replace(variant().config.budget, samples=5 * 32))
    built = np.concatenate([run.batches[step].prefix_len_B.numpy() for step in range(5)])
    assert prefix_lengths(run).count_I.tolist() == [int((built == m).sum()) for m in range(1, 17)]


def test_a_curriculum_is_tested_by_the_distribution_of_each_step(variant, plugged):
    plugged(
        "import numpy as np\nfrom aimv2.extend import prefix_distribution\n@prefix_distribution\n"
        "def longer(num_patches, progress):\n"
        "    lengths = np.arange(1, num_patches)\n"
        "    return (lengths > 8 * progress) / (lengths > 8 * progress).sum()\n"
    )
    run = variant(prefix={"law": "longer"})
    found = prefix_lengths(run)
    assert found.check.verdict == "PASS"
    assert "prefix.law=longer" in found.check.found
    assert prefix_lengths(drawn_by(run, lambda draw, **address: draw(**{**address, "step": 0}))).check.verdict == "FAIL"


def drawn_by(run, draw):
    """The run with another way to draw prefix lengths: ``draw(original, **address)``."""

    class Other(PrefixDistribution):
        def draw(self, **address):
            return draw(super().draw, **address)

    values = {field.name: getattr(run.config.prefix, field.name) for field in fields(run.config.prefix)}
    return replace(run, config=replace(run.config, prefix=Other(**values)))


def test_draw_that_prefers_some_lengths_fails(small):
    def biased(draw, **address):
        length_B = draw(**address)
        return np.maximum(length_B - (length_B == 15), 1)

    check = prefix_lengths(drawn_by(small, biased)).check
    assert check.verdict == "FAIL"
    assert "p = " in check.found


def test_one_draw_per_batch_fails_if_images_draw_for_themselves(small):
    run = drawn_by(small, lambda draw, **address: np.full_like(draw(**address), draw(**address)[0]))
    assert prefix_lengths(run).check.verdict == "FAIL"


@pytest.mark.parametrize("length", [0, 16, 17])
def test_one_impossible_length_fails(small, length):
    def with_one(draw, *, step, **address):
        length_B = draw(step=step, **address)
        length_B[0] = length if step == 4 else length_B[0]
        return length_B

    check = prefix_lengths(drawn_by(small, with_one)).check
    assert check.verdict == "FAIL"
    assert "1 draws have a length of probability 0" in check.found


def test_images_of_one_step_must_agree_if_drawn_per_batch(variant):
    run = variant(prefix={"per": "batch"})
    per_image = PrefixDistribution()
    check = prefix_lengths(drawn_by(run, lambda draw, **address: per_image.draw(**address))).check
    assert check.verdict == "FAIL"
    assert "images of one step differ" in check.found


def test_batches_with_other_lengths_fail(variant, run):
    other = variant(seed=7)
    vars(other)["batches"] = run.batches
    check = prefix_lengths(other).check
    assert check.verdict == "FAIL"
    assert "other lengths" in check.found


def test_too_few_draws_are_not_tested(variant):
    run = variant(prefix={"per": "batch"}, budget=replace(variant().config.budget, samples=6 * 32))
    assert prefix_lengths(run).check.verdict == "NOT APPLICABLE"


def test_chi_square_joins_neighbours_until_five_are_expected():
    counts, law = np.array([2, 4, 0, 9, 3, 2]), np.array([0.2, 0.1, 0.0, 0.4, 0.2, 0.1])  # expected: 4 2 0 8 4 2
    expected = stats.chisquare([6, 9, 5], [6, 8, 6])
    assert chi_square(counts, law) == pytest.approx((expected.statistic, 2, expected.pvalue))
    last_too_small = stats.chisquare([6, 14], [8, 12])
    assert chi_square(np.array([6, 11, 3]), np.array([0.4, 0.4, 0.2])) == pytest.approx(
        (last_too_small.statistic, 1, last_too_small.pvalue)
    )
    assert chi_square(np.array([2, 1]), np.array([0.5, 0.5])) == (0, 0, 1)
