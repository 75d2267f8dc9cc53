"""1a: prefix lengths against their law, and draws that are wrong."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from aimv2.prefix import PrefixDistribution
from analysis.verify.prefix import chi_square, prefix_lengths

LAWS = {
    "uniform": {},
    "figure 1": {"law": "uniform_figure1"},
    "beta": {"law": "beta", "alpha": 1.0, "beta": 3.0},
    "truncated": {"law": "truncated", "low": 0.25, "high": 0.5},
    "half full": {"full_attention": 0.5},
    "per batch": {"per": "batch"},
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_law_passes_on_its_own_draws(variant, law):
    found = prefix_lengths(variant(prefix=law))
    assert found.line.verdict == "PASS", found.line
    assert "chi-square" in found.line.found
    assert found.count_I.sum() == (300 if law.get("per") == "batch" else 9600)


def test_the_lengths_of_a_mixture_are_found_where_its_samples_are(variant):
    found = prefix_lengths(variant(data=replace(variant().config.data, weights=(1, 3))))
    assert found.line.verdict == "PASS", found.line


@pytest.mark.parametrize(("law", "length"), [({"law": "fixed", "fraction": 0.5}, 8), ({"law": "causal"}, 1)])
def test_a_law_of_one_length_passes_without_a_test(variant, law, length):
    line = prefix_lengths(variant(prefix=law)).line
    assert line.verdict == "PASS"
    assert f"all draws are {length} of 16" in line.found


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
def test_lengths_that_nothing_reads_are_not_applicable(variant, kind):
    found = prefix_lengths(variant(**kind))
    assert found.line.verdict == "NOT APPLICABLE"
    assert "nothing reads prefix lengths" in found.line.found
    assert not found.count_I.any()


@pytest.mark.parametrize("kind", READ.values(), ids=READ)
def test_lengths_that_a_mask_or_a_loss_reads_are_tested(variant, kind):
    assert prefix_lengths(variant(**kind)).line.verdict == "PASS"


def test_the_counts_are_those_of_the_batches(variant):
    subject = variant(budget=replace(variant().config.budget, samples=5 * 32))
    built = np.concatenate([subject.batches[step].prefix_len_B.numpy() for step in range(5)])
    assert prefix_lengths(subject).count_I.tolist() == [int((built == m).sum()) for m in range(1, 17)]


def test_a_draw_that_prefers_some_lengths_fails(small, monkeypatch):
    draw = PrefixDistribution.draw
    monkeypatch.setattr(
        PrefixDistribution, "draw", lambda law, **at: np.maximum(draw(law, **at) - (draw(law, **at) == 15), 1)
    )
    line = prefix_lengths(small).line
    assert line.verdict == "FAIL"
    assert "p = " in line.found


def test_a_draw_for_the_whole_batch_fails_a_law_for_images(small, monkeypatch):
    draw = PrefixDistribution.draw
    monkeypatch.setattr(PrefixDistribution, "draw", lambda law, **at: np.full_like(draw(law, **at), draw(law, **at)[0]))
    assert prefix_lengths(small).line.verdict == "FAIL"


@pytest.mark.parametrize("length", [0, 16, 17])
def test_one_length_that_cannot_be_fails(small, monkeypatch, length):
    draw = PrefixDistribution.draw

    def with_one(law, *, step, **at):
        drawn = draw(law, step=step, **at)
        drawn[0] = length if step == 4 else drawn[0]
        return drawn

    monkeypatch.setattr(PrefixDistribution, "draw", with_one)
    line = prefix_lengths(small).line
    assert line.verdict == "FAIL"
    assert "1 draws have a length of probability 0" in line.found


def test_images_of_one_step_must_agree_when_the_law_is_per_batch(variant, monkeypatch):
    subject = variant(prefix={"per": "batch"})
    draw = PrefixDistribution.draw
    monkeypatch.setattr(PrefixDistribution, "draw", lambda law, **at: draw(replace(law, per="image"), **at))
    line = prefix_lengths(subject).line
    assert line.verdict == "FAIL"
    assert "images of one step differ" in line.found


def test_batches_that_carry_other_lengths_fail(variant, subject):
    other = variant(seed=7)
    vars(other)["batches"] = subject.batches
    line = prefix_lengths(other).line
    assert line.verdict == "FAIL"
    assert "other lengths" in line.found


def test_too_few_draws_are_not_tested(variant):
    subject = variant(prefix={"per": "batch"}, budget=replace(variant().config.budget, samples=6 * 32))
    assert prefix_lengths(subject).line.verdict == "NOT APPLICABLE"


def test_chi_square_with_enough_draws_is_scipys():
    counts, law = np.array([30, 55, 15]), np.array([0.3, 0.5, 0.2])
    expected = stats.chisquare(counts, 100 * law)
    assert chi_square(counts, law) == pytest.approx((expected.statistic, 2, expected.pvalue))


def test_neighbours_are_joined_until_five_are_expected():
    counts, law = np.array([2, 4, 0, 9, 3, 2]), np.array([0.2, 0.1, 0.0, 0.4, 0.2, 0.1])  # expected: 4 2 0 8 4 2
    expected = stats.chisquare([6, 9, 5], [6, 8, 6])
    assert chi_square(counts, law) == pytest.approx((expected.statistic, 2, expected.pvalue))
    last_too_small = stats.chisquare([6, 14], [8, 12])
    assert chi_square(np.array([6, 11, 3]), np.array([0.4, 0.4, 0.2])) == pytest.approx(
        (last_too_small.statistic, 1, last_too_small.pvalue)
    )
    assert chi_square(np.array([2, 1]), np.array([0.5, 0.5])) == (0, 0, 1)
