"""What is concluded does not depend on the processor, on the order of arms or seeds, or on the zero of a metric.

Processors add in different orders: numbers differ in their last digits, which a factor of 1 + 1e-13 stands for. Left
out are values at a threshold itself, such as an interval that ends at 0 or a p-value equal to a level: no strategy
draws them, as noise, unlike an exact tie of values, makes them with a probability of about 1e-10.
"""

import math
import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import Cell
from aimv2.ablations.expectations import PROBE, READER, Relation
from aimv2.ablations.request import Request
from aimv2.analysis.inference.agreement import agreement
from aimv2.analysis.inference.contrasts import SharedError, range_difference, spreads
from aimv2.analysis.inference.factors import analyse
from aimv2.analysis.inference.intervals import Aim, Noise, mean_interval, seeds_for, unpaired_difference
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.inference.scaling_law import fit, lack_of_fit
from aimv2.analysis.inference.survival import lead, restricted_mean, time_to_reach
from aimv2.analysis.judgement.findings import Findings, climb
from aimv2.analysis.judgement.planner import planner_of
from aimv2.analysis.judgement.rules import finding, outcome
from aimv2.analysis.judgement.sensitivity import MetricSensitivity, SampleCurve, margins, sensitivity_of
from aimv2.analysis.judgement.verdicts import primary_comparisons, verdicts
from aimv2.analysis.judgement.withheld import Reasons, check_controls
from aimv2.analysis.sections.metrics import detected
from aimv2.analysis.sections.summary import answer
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from tests.helpers.evidence import evidence_of

NOISE = 1e-13
MARGIN = 0.5
SHIFT = st.sampled_from([1.0, -70.0, 1e6])
CHANGES = ("noise", "arms", "seeds", "constant")
CURVE = SampleCurve({0.5: 0.3, 2.0: -0.2})
# Runs that have the mechanism of every claim.
CONFIG = replaced(demo(), {"objective.name": "image_only", "data.scenes.num_scenes": 500})


@st.composite
def tables(draw, max_seeds=16, max_arms=33, min_arms=3):
    """Values by seed and arm: with noise, exactly additive, with an arm that spreads more, or with two equal arms."""
    kind = draw(st.sampled_from(["noise", "noise", "additive", "wide", "twins"]))
    num_seeds = draw(st.sampled_from([3, 3, *range(2, max_seeds + 1)]))
    num_arms = draw(st.one_of(st.integers(min_arms, max_arms), st.integers(max(min_arms, max_arms // 2), max_arms)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return table_of(kind, num_seeds, num_arms, rng, draw(st.sampled_from([0.0, 0.0, 0.2])))


def table_of(kind, num_seeds, num_arms, rng, missing=0.0):
    shape = (num_seeds, num_arms)
    rng = np.random.default_rng(rng)
    value_SA = 3 + rng.normal(0, 2, (num_seeds, 1)) + rng.normal(0, 0.5, num_arms)
    if kind != "additive":
        value_SA = value_SA + rng.normal(0, 0.2, shape)
    if kind in ("wide", "twins"):
        value_SA[:, 1] += rng.normal(0, 8, num_seeds)
    if kind == "twins":
        value_SA[:, 2] = value_SA[:, 1]
    value_SA[rng.random(shape) < missing] = np.nan
    return pd.DataFrame(value_SA, columns=[f"a{number:02}" for number in range(num_arms)])


def changed(values, how, rng, constant):
    """Return a table of which everything that is concluded must stay the same."""
    rng = np.random.default_rng(rng)
    if how == "noise":
        return values * (1 + rng.uniform(-NOISE, NOISE, values.shape))
    if how == "arms":
        return values[rng.permutation(values.columns)]
    return values.iloc[rng.permutation(len(values))] if how == "seeds" else values + constant


def words_of(one):
    """Return all of an estimate or a bracket that is no measured number."""
    return [one.n, one.family, one.error_from, one.covers, one.has_interval, round(one.level, 12)]


def numbers_of(one):
    return [one.mean, one.low, one.high, getattr(one, "df", None), getattr(one, "correlation", None)]


def assert_same(one, other, size=1.0):
    """Assert that two lists of estimates have the same words, and the same numbers up to the rounding of a size."""
    assert [words_of(found) for found in one] == [words_of(found) for found in other]
    numbers, others = (np.array([numbers_of(found) for found in some], dtype=float) for some in (one, other))
    np.testing.assert_allclose(others, numbers, rtol=1e-7, atol=1e-9 * max(abs(size), 1))


def judged(estimates):
    """Return the words for each difference and relation."""
    return [
        (finding(one, MARGIN, lower_is_better=True), outcome(relation, one, MARGIN, lower_is_better=True))
        for one in estimates
        for relation in get_args(Relation)
    ]


def estimates_of(values):
    """Return estimates of every kind from a table with an error that arms share, by the names of arms."""
    error, (first, *others) = SharedError(values), sorted(values)
    weights = dict(zip((first, *others), (1.0, -0.5, -0.5), strict=False))
    return [
        *error.contrasts(others, first).values(),
        *(error.contrast(arm, first, 0.9) for arm in others[:4]),
        error.combination(weights),
        range_difference(error, [first, *others[:2]], others[:2]),
        *(mean_interval(values[arm]) for arm in (first, *others)),
        unpaired_difference(values[first], values[others[0]] + 0.1),
    ]


@pytest.mark.exhaustive
# Each of these has another error or interval on the code of before, on the machine that the issue names.
@example(table_of("noise", 3, 16, 0), "noise", 0, 1.0)
@example(table_of("additive", 4, 5, 0), "noise", 0, 1.0)
@example(table_of("noise", 3, 16, 0), "arms", 0, 1.0)
# Degrees of freedom are numbers: after a million is added, the tenth digit of Satterthwaite's differs.
@example(pd.DataFrame({"a": [3.56, 2.54, 3.87], "b": [3.17, 2.34, 3.97], "c": [3.29, 2.92, 4.21]}), "constant", 0, 1e6)
@given(tables(), st.sampled_from(CHANGES), st.integers(0, 2**32), SHIFT)
@settings(max_examples=60)
def test_estimates_and_their_words_stay_the_same(values, how, rng, constant):
    before, after = estimates_of(values), estimates_of(changed(values, how, rng, constant))
    num_means = len(values.columns)
    shift = constant if how == "constant" else 0.0
    assert_same(before[: -num_means - 1], after[: -num_means - 1], shift)
    means = [replace(one, mean=one.mean - shift) for one in after[-num_means - 1 : -1]]
    assert_same(before[-num_means - 1 : -1], means, shift)
    assert_same(before[-1:], after[-1:], shift)
    assert judged(before[: -num_means - 1]) == judged(after[: -num_means - 1])
    aim = Aim(MARGIN, 0.025)
    assert [seeds_for(Noise.of(one), aim) for one in before[:3] if one.has_interval] == [
        seeds_for(Noise.of(one), aim) for one in after[:3] if one.has_interval
    ]


@given(tables(max_arms=12), st.sampled_from(CHANGES), st.integers(0, 2**32), SHIFT)
@settings(max_examples=40)
def test_arms_that_spread_more_stay_the_same(values, how, rng, constant):
    def named(table):
        found = spreads(table.to_numpy(dtype=float))
        return [{table.columns[number] for number in some} for some in (found.wider, found.apart)]

    assert named(values) == named(changed(values, how, rng, constant))


@pytest.mark.exhaustive
@given(
    tables(max_arms=8), st.booleans(), st.sampled_from(CHANGES), st.integers(0, 2**32), st.sampled_from([1.0, 1000.0])
)
@settings(max_examples=20)
def test_agreement_of_scales_stays_the_same(large, is_counted, how, rng, constant):
    """Counts of a few items make ties, which sums in another order break."""
    small = large[::-1].reset_index(drop=True)
    if is_counted:
        small, large = (table.clip(2, 4).round(1) for table in (small, large))
    other = changed(large, how, rng, constant)

    def shares(small, large):
        found = agreement(small, large, num_draws=30)
        return [found.accuracy, found.distinguishable, found.rank]

    pairs = list(zip(shares(small, large), shares(small, other), strict=True))
    assert [(one.n, one.num_seeds) for one, _ in pairs] == [(two.n, two.num_seeds) for _, two in pairs]
    values, others = ([one.value for one in some] for some in zip(*pairs, strict=True))
    np.testing.assert_allclose(others, values, atol=1e-7)
    if how != "seeds":  # which seeds are drawn follows from their order
        ends, others = ([(one.low, one.high) for one in some] for some in zip(*pairs, strict=True))
        np.testing.assert_allclose(others, ends, atol=1e-7)


@pytest.mark.exhaustive
@given(
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=8),
    st.booleans(),
    st.sampled_from(["noise", "runs", "constant"]),
    st.integers(0, 2**32),
    SHIFT,
)
@settings(max_examples=30)
def test_effects_of_factors_stay_the_same(missing, is_additive, how, rng, constant):
    rng = np.random.default_rng(rng)
    cells = [(s, a, b) for s in range(5) for a in range(3) for b in range(2) if (s, 2 * a + b) not in missing]
    noise = np.zeros(len(cells)) if is_additive else rng.normal(0, 0.3, len(cells))
    values = [3 + 0.7 * s * s + 0.3 * a - 0.2 * b for s, a, b in cells] + noise
    runs = pd.DataFrame([(s, f"a{a}", f"b{b}") for s, a, b in cells], columns=["seed", "A", "B"]).assign(value=values)
    other = runs.assign(value=values + constant) if how == "constant" else runs.iloc[rng.permutation(len(runs))]
    if how == "noise":
        other = runs.assign(value=values * (1 + rng.uniform(-NOISE, NOISE, len(runs))))
    one, two = (analyse(table, {"A": ["a0", "a1", "a2"], "B": ["b0", "b1"]}) for table in (runs, other))
    size = constant if how == "constant" else 1.0
    assert_same([effect.estimate for effect in one.effects], [effect.estimate for effect in two.effects], size)
    tests = [
        [(test.term, test.df, test.error_df, test.has_test, test.adjusted_p < 0.05) for test in found.tests]
        for found in (one, two)
    ]
    assert tests[0] == tests[1]
    without_check = [[note for note in found.notes if "mixed model" not in note] for found in (one, two)]
    assert without_check[0] == without_check[1]


@example(num_points=4, are_equal=True, rng=61)
@given(num_points=st.integers(2, 6), are_equal=st.booleans(), rng=st.integers(0, 2**32))
def test_convergence_stays_the_same(num_points, are_equal, rng):
    """The other run may have the same losses, as where an option changes nothing: it arrives at its own last loss."""
    rng = np.random.default_rng(rng)
    times = np.arange(1.0, num_points + 1)
    losses = 5 - np.sort(rng.random((3, num_points)), axis=1)
    others = losses if are_equal else losses + rng.normal(0, 0.2, (3, 1))
    found = []
    for factor in (1, 1 + rng.uniform(-NOISE, NOISE, losses.shape)):
        curves = [pd.Series(row, times) for row in losses * factor]
        reference = [pd.Series(row, times) for row in others]
        reached = [time_to_reach(one, two.iloc[-1]) for one, two in zip(curves, reference, strict=True)]
        leads = np.array([lead(one, two, num_points) for one, two in zip(curves, reference, strict=True)])
        found.append((restricted_mean(reached, [num_points] * 3), mean_interval(leads, size=num_points)))
    (one, one_lead), (two, two_lead) = found
    assert (one.num_reached, one.is_lower_bound) == (two.num_reached, two.is_lower_bound)
    assert_same([one.estimate, one_lead], [two.estimate, two_lead], 100)


@pytest.mark.parametrize("needs_n", [True, False])
@pytest.mark.parametrize("how", ["noise", "runs"])
def test_scaling_law_and_its_warnings_stay_the_same(needs_n, how):
    """Where the loss grows with n, the term of n is at its bound, and its exponent is anything."""
    rng = np.random.default_rng(0)
    rows = [(n, d, seed) for n in (1e5, 3e5, 9e5) for d in (1e3, 4e3, 16e3) for seed in range(3)]
    runs = pd.DataFrame(rows, columns=["n", "d", "seed"])
    of_n = 40 * runs["n"] ** -0.3 if needs_n else 0.1 * np.log(runs["n"])
    loss = 1.5 + of_n + 30 * runs["d"] ** -0.4
    runs["loss"] = loss * np.exp(rng.normal(0, 0.02, 3)[runs["seed"]] + rng.normal(0, 0.01, len(runs)))
    other = runs.assign(loss=runs["loss"] * (1 + rng.uniform(-NOISE, NOISE, len(runs))))
    one, two = (fit(table, ("n", "d")) for table in (runs, other if how == "noise" else runs[::-1]))
    assert (one.parameters["A"] == 0) == (two.parameters["A"] == 0) == (not needs_n)
    names = ["E", "B", "b", *(["A", "a"] if needs_n else [])]
    assert [two.parameters[name] for name in names] == pytest.approx([one.parameters[name] for name in names], rel=1e-5)
    misfit, other_misfit = (lack_of_fit(law, table) for law, table in ((one, runs), (two, other)))
    assert vars(other_misfit) == pytest.approx(vars(misfit), rel=1e-4, abs=1e-9)


METRICS = (READER, "content_loss", "causal_content_loss", PROBE, f"causal_{PROBE}")


@pytest.mark.exhaustive
@example(slug="data_mix", size=0.1, num_seeds=3, spread=0.05, how="arms", rng=0, constant=1.0)
@given(
    slug=st.sampled_from(sorted(STUDIES)),
    size=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    num_seeds=st.sampled_from([3, 4]),
    spread=st.sampled_from([0.0, 0.002, 0.05]),
    how=st.sampled_from(CHANGES),
    rng=st.integers(0, 2**32),
    constant=st.sampled_from([1.0, 1000.0]),
)
@settings(max_examples=15)
def test_verdicts_and_all_that_they_rest_on_stay_the_same(slug, size, num_seeds, spread, how, rng, constant):
    """With a spread of 0, values are exactly additive: no seed tells anything."""
    study, generator = STUDIES[slug], np.random.default_rng(rng)
    effects = {(arm, metric): generator.normal(0, size) for arm in study.conditions for metric in METRICS}
    evidence = evidence_of(study, effects, spread=spread, metrics=METRICS, seeds=range(num_seeds), rng=rng)
    rows = evidence.metrics
    if how == "noise":
        rows = rows.assign(value=rows["value"] * (1 + generator.uniform(-NOISE, NOISE, len(rows))))
    elif how == "constant":
        rows = rows.assign(value=rows["value"] + constant)
    else:
        rows = rows.iloc[generator.permutation(len(rows))]
    other_study = with_arms_reversed(study) if how == "arms" else study
    one, other = concluded(study, evidence), concluded(other_study, replace(evidence, metrics=rows))
    assert one.keys() == other.keys()
    np.testing.assert_allclose(other.pop("degrees of freedom"), one.pop("degrees of freedom"), rtol=1e-7)
    for part, words in one.items():
        assert words == other[part], part


def concluded(study, evidence):
    """Return all words that judgements of a study consist of, without measured numbers, by part and name."""
    ladder = climb(study, evidence, demo())
    rungs = sensitivity_of(ladder)
    sensitivity = rungs | {  # of which all see everything, at the noise of these runs
        metric: MetricSensitivity(metric, "sees all", curve=CURVE, noise=Noise(seen.paired_sd, seen.items_error or 0))
        for metric, seen in ladder.metrics.items()
    }
    study = study.with_margins(margins(sensitivity))
    controls = check_controls(study, evidence)
    reasons = Reasons(study, evidence, controls, sensitivity)
    request = Request(study=study, cells=[Cell(arm=arm, seed=0, config=CONFIG) for arm in study.arms], arguments=())
    comparisons = primary_comparisons(reasons, request.cells)
    found = verdicts(reasons, CONFIG)
    findings = Findings(request, Look(1, 16), None, reasons, comparisons, found)
    judged_by = [
        *(comparisons[arm] for arm in sorted(comparisons)),
        *(judged for one in found.values() for judged in one.comparisons),
    ]
    return {
        "degrees of freedom": [getattr(one.difference, "df", math.nan) for one in judged_by],
        "controls": {(one.control, one.metric, one.result, without_numbers(one.reason)) for one in controls},
        "reasons": {claim: sorted(map(without_numbers, reasons.of_claim(claim, CONFIG))) for claim in study.claims},
        "rungs": {metric: sorted(seen.effects) for metric, seen in ladder.metrics.items()},
        "sensitivity": {metric: (one.is_blind, sorted(one.unseen)) for metric, one in rungs.items()},
        "comparisons": {
            arm: (one.observed, one.expected, one.outcome, one.withheld, words_of(one.difference))
            for arm, one in comparisons.items()
        },
        "verdicts": {
            claim: (
                one.word,
                sorted(without_numbers(note) for note in one.qualifications),
                [(words_of(judged.difference), judged.outcome) for judged in one.comparisons],
                f"{planner_of(study, claim, 0.975, sensitivity).seeds:g}",
            )
            for claim, one in found.items()
        },
        "answer": words_in_any_order(answer(findings)),
        "detected": sorted((metric, arm, estimate.mean > 0) for metric, arm, estimate in detected(findings)),
    }


def with_arms_reversed(study):
    return replace(study, design=replace(study.design, arms=dict(reversed(study.arms.items()))))


def words_in_any_order(text):
    """Return the words of a list of arms: which of them is the last, before the full stop, follows from their order."""
    return sorted(word.strip(".,;:") for word in without_numbers(text).split())


def without_numbers(text):
    return re.sub(r"[-+−]?\d+(\.\d+)?", "#", text)
