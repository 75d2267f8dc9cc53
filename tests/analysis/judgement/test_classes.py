from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aimv2.ablations.design import one_factor
from aimv2.analysis.inference.contrasts import SharedError
from aimv2.analysis.inference.intervals import NO_ESTIMATE
from aimv2.analysis.judgement.classes import shares_of, words
from aimv2.analysis.judgement.compare import Differences, primary_comparisons
from aimv2.data.sources.scene import SCENE_CLASSES
from tests.helpers.evidence import evidence_by_class
from tests.helpers.specimen import STUDY

TOKENS = {"object": 500, "ink": 500, "place": 600, "relation": 150, "count": 250}
PLACES = {("fixed_50", "content_loss_place"): 0.6, ("fixed_50", "content_loss_ink"): 0.1}


def parts_of(evidence, study=STUDY):
    differences = Differences(study, evidence)
    wholes = differences.from_baseline("content_loss", [arm for arm in study.arms if arm != "uniform"])
    return differences.parts("content_loss", wholes, "uniform")


def token_by_token(evidence, arm, classes):
    """Return the mean loss over all tokens of these classes, by seed, from a list of every token's loss."""
    losses = [evidence.value(f"content_loss_{name}", arm) for name in classes for _ in range(TOKENS[name])]
    return pd.concat(losses, axis=1).mean(axis=1)


def test_shares_are_those_of_the_tokens():
    found = shares_of(evidence_by_class(STUDY, {}, TOKENS), "content_loss")
    assert found == pytest.approx({name: number / 2000 for name, number in TOKENS.items()}, abs=1e-7)


def test_metrics_without_classes_have_no_shares():
    evidence = evidence_by_class(STUDY, {}, TOKENS)
    assert shares_of(evidence, "probe_object") == {}
    assert shares_of(evidence, "reader_loss") == {}
    whole = replace(evidence, metrics=evidence.metrics[evidence.metrics["metric"] == "content_loss"])
    assert shares_of(whole, "content_loss") == {}
    assert parts_of(whole) == {}


def test_shares_are_not_guessed():
    """No shares if runs have other tokens, if some tokens have no class, or if there are fewer runs than classes."""
    evidence = evidence_by_class(STUDY, {}, TOKENS)
    table = evidence.metrics
    is_whole, is_causal = table["metric"] == "content_loss", table["arm"] == "causal"
    other = table.assign(value=table["value"].where(~(is_whole & is_causal), table["value"] + 0.01))
    assert shares_of(replace(evidence, metrics=other), "content_loss") == {}
    lacking = table[table["metric"] != "content_loss_relation"]
    assert shares_of(replace(evidence, metrics=lacking), "content_loss") == {}
    few = table[(table["arm"].isin(["causal", "uniform"])) & (table["seed"] < 2)]
    assert shares_of(replace(evidence, metrics=few), "content_loss") == {}


@settings(deadline=None, max_examples=10)
@given(
    tokens=st.lists(st.integers(50, 10_000), min_size=5, max_size=5),
    effects=st.lists(st.floats(-1, 1), min_size=5, max_size=5),
    rng=st.integers(0, 2**32),
)
def test_contributions_add_up_to_the_difference(tokens, effects, rng):
    per_class = {("causal", f"content_loss_{name}"): one for name, one in zip(SCENE_CLASSES, effects, strict=True)}
    evidence = evidence_by_class(STUDY, per_class, dict(zip(SCENE_CLASSES, tokens, strict=True)), rng=rng)
    for arm, one in parts_of(evidence).items():
        paired = evidence.value("content_loss", arm) - evidence.value("content_loss", "uniform")
        assert sum(each.mean for each in one.contributions.values()) == pytest.approx(paired.mean(), abs=1e-6)
        weight = sum(one.shares[name] for name in one.most)
        if one.most and one.rest.n:
            of_most = sum(one.contributions[name].mean for name in one.most)
            assert of_most / one.whole.mean > 0.5
            assert of_most + (1 - weight) * one.rest.mean == pytest.approx(paired.mean(), abs=1e-6)


def test_difference_is_told_by_the_class_that_makes_it_up():
    evidence = evidence_by_class(STUDY, PLACES, TOKENS, spread=0.001)
    one = parts_of(evidence)["fixed_50"]
    others = [name for name in TOKENS if name != "place"]
    rest = token_by_token(evidence, "fixed_50", others) - token_by_token(evidence, "uniform", others)
    assert one.most == ("place",)
    assert one.rest.mean == pytest.approx(rest.mean(), abs=1e-6)
    assert one.contributions["place"].mean == pytest.approx(0.3 * 0.6, abs=0.002)
    assert one.text == "88 % of it place words"  # 0.3 x 0.6 of 0.3 x 0.6 + 0.25 x 0.1
    assert one.text_with_rest.startswith("88 % of it place words (0.036 [0.03")


def test_rest_of_an_improvement_is_positive_in_its_direction():
    worse = evidence_by_class(STUDY, PLACES, TOKENS, spread=0.001)
    better = replace(worse, metrics=worse.metrics.assign(value=-worse.metrics["value"]))
    assert parts_of(better)["fixed_50"].text_with_rest == parts_of(worse)["fixed_50"].text_with_rest


def test_intervals_are_those_of_the_study():
    """They have the shared error of the class's loss: with two arms, Student's paired interval."""
    two = one_factor(uniform=STUDY.arms["uniform"], fixed_25=STUDY.arms["fixed_25"])
    study = replace(STUDY, controls=(), design=two, expected={}, claims={})
    effects = {("fixed_25", "content_loss_place"): 0.6, ("fixed_25", "content_loss_ink"): 0.1}
    evidence = evidence_by_class(study, effects, TOKENS, spread=0.01)
    one = parts_of(evidence, study)["fixed_25"]
    paired = evidence.value("content_loss_place", "fixed_25") - evidence.value("content_loss_place", "uniform")
    low, high = stats.t.interval(1 - 0.05 / 5, 3, paired.mean(), stats.sem(paired))
    assert (one.differences["place"].low, one.differences["place"].high) == pytest.approx((low, high))
    assert one.contributions["place"].low == pytest.approx(0.3 * low, rel=1e-5)
    others = [name for name in TOKENS if name != "place"]
    rest = token_by_token(evidence, "fixed_25", others) - token_by_token(evidence, "uniform", others)
    assert (one.rest.low, one.rest.high) == pytest.approx(
        stats.t.interval(0.95, 3, rest.mean(), stats.sem(rest)), rel=1e-4
    )


def test_level_is_that_of_the_family():
    """An arm with an error of its own has a share of the error rate; that of the others is no smaller for it."""
    evidence = evidence_by_class(STUDY, PLACES, TOKENS, spread={"uniform": 0.01, "fixed_25": 1.0}, rng=1)
    found = parts_of(evidence)
    assert found["fixed_25"].whole.level > found["fixed_50"].whole.level
    assert found["fixed_50"].differences["ink"].level == pytest.approx(1 - 0.05 * 3 / 4 / 5)
    assert found["fixed_50"].rest.level == pytest.approx(1 - 0.05 * 3 / 4)


def test_several_classes_are_named_if_one_is_not_most_of_it():
    even = {("causal", f"content_loss_{name}"): 0.5 for name in ("object", "place", "count")}
    found = parts_of(evidence_by_class(STUDY, even, TOKENS, spread=0.001))["causal"]
    assert found.most == ("place", "object")
    assert found.text == "81 % of it place and object words"
    assert words(("a", "b", "c")) == "a, b and c words"


def test_more_than_all_of_a_difference_is_all_of_it():
    mixed = {("causal", "content_loss_place"): 0.5, ("causal", "content_loss_ink"): -0.1}
    found = parts_of(evidence_by_class(STUDY, mixed, TOKENS, spread=0.001))["causal"]
    assert found.text == "all of it place words"
    assert found.rest.high < 0


def test_nothing_is_told_of_a_difference_that_is_not_decided():
    """But a class may differ, where another one hides it."""
    hidden = {("causal", "content_loss_place"): 0.1, ("causal", "content_loss_object"): -0.12}
    found = parts_of(evidence_by_class(STUDY, hidden, TOKENS, spread=0.005))
    assert not found["causal"].whole.excludes_zero
    assert (found["causal"].most, found["causal"].text_with_rest, found["causal"].rest) == ((), "", NO_ESTIMATE)
    assert set(found["causal"].seen) == {"place", "object"}
    assert found["fixed_25"].seen == {}


def test_arm_whose_classes_do_not_add_up_is_left_out():
    """A run without a class, as of an older version, has no part in the class's differences."""
    evidence = evidence_by_class(STUDY, PLACES, TOKENS, spread=0.01)
    table = evidence.metrics
    gone = (table["arm"] == "fixed_50") & (table["seed"] == 0) & (table["metric"] == "content_loss_place")
    found = parts_of(replace(evidence, metrics=table[~gone]))
    assert "fixed_50" not in found
    assert parts_of(replace(evidence, metrics=table[table["seed"] == 0])) == {}, "one seed has no interval"


@settings(deadline=None, max_examples=5)
@given(order=st.randoms(use_true_random=False))
def test_order_of_rows_is_irrelevant(order):
    evidence = evidence_by_class(STUDY, PLACES, TOKENS)
    rows = list(range(len(evidence.metrics)))
    order.shuffle(rows)
    shuffled = replace(evidence, metrics=evidence.metrics.iloc[rows].reset_index(drop=True))
    before, after = parts_of(evidence), parts_of(shuffled)
    assert before.keys() == after.keys()
    for arm, one in before.items():
        assert (one.most, one.text_with_rest) == (after[arm].most, after[arm].text_with_rest)
        assert one.shares == pytest.approx(after[arm].shares)


def test_incomplete_seeds_add_up_as_the_study_estimates_them():
    evidence = evidence_by_class(STUDY, PLACES, TOKENS, spread=0.01)
    table = evidence.metrics
    some = replace(evidence, metrics=table[~((table["arm"] == "fixed_50") & (table["seed"] == 0))])
    one = parts_of(some)["fixed_50"]
    values = some.values("content_loss")[list(STUDY.arms)]
    assert one.whole.mean == pytest.approx(SharedError(values).contrast("fixed_50", "uniform").mean)
    assert sum(each.mean for each in one.contributions.values()) == pytest.approx(one.whole.mean, abs=1e-6)


def test_comparisons_have_their_parts(cells):
    comparisons = primary_comparisons(STUDY, cells, evidence_by_class(STUDY, PLACES, TOKENS, spread=0.001))
    assert comparisons["fixed_50"].parts.most == ("place",)
    assert np.isclose(comparisons["fixed_50"].parts.whole.mean, comparisons["fixed_50"].difference.mean)


def test_parts_of_two_arms_are_those_of_arms_of_the_study():
    evidence = evidence_by_class(STUDY, PLACES, TOKENS, spread=0.001)
    differences = Differences(STUDY, evidence)
    whole = differences.of("fixed_50", "content_loss", "causal", "content_loss")
    assert differences.parts("content_loss", {"fixed_50": whole}, "causal")["fixed_50"].most == ("place",)
    whole = differences.of("positive_control", "content_loss", "causal", "content_loss")
    assert differences.parts("content_loss", {"positive_control": whole}, "causal") == {}
