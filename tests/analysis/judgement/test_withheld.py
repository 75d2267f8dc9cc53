"""What withholds verdicts, qualifies them and limits numbers: code, runs, controls, sensitivity, metrics, starts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand, untrained_names
from aimv2.ablations.expectations import CONTENT, INK, READER, Combination, expect, slope
from aimv2.ablations.study import UNTRAINED, WINNER, confirmation
from aimv2.analysis.evidence.tables import MISSING_COLUMNS, MIXTURE_COLUMNS
from aimv2.analysis.inference.items import ItemMoments
from aimv2.analysis.judgement.rules import Word
from aimv2.analysis.judgement.verdicts import verdicts
from aimv2.analysis.judgement.withheld import Reasons, check_controls
from aimv2.config.recipes.scales import SCALES
from aimv2.request.resolve import with_attention
from tests.helpers.documents import judged_again
from tests.helpers.evidence import evidence_from, evidence_of, passed_controls, sensitive
from tests.helpers.specimen import STUDY

METRIC = STUDY.primary_metric


def judged_with(findings, **parts):
    return judged_again(findings, replace(findings.evidence, **parts))


def missing(*rows):
    """Rows of arm, seed and whether the run failed."""
    return pd.DataFrame([(arm, seed, "", "a reason", failed) for arm, seed, failed in rows], columns=MISSING_COLUMNS)


def test_whole_arm_of_equal_budget_has_no_notes(findings):
    assert [findings.reasons.limits(arm, METRIC) for arm in [*STUDY.conditions, UNTRAINED]] == [[]] * 8


def test_mixed_code_is_said_once_and_alone_unless_it_is_allowed(findings):
    runs = findings.evidence.runs.assign(code=["other", *["c" * 12] * 31])
    found = judged_with(findings, runs=runs)
    assert found.reasons.limits("causal", METRIC) == found.reasons.limits_of_metric() == ["the runs are of 2 codes"]
    allowing = replace(STUDY, allow_mixed_code=True)
    found = judged_again(findings, replace(findings.evidence, runs=runs), study=allowing)
    assert found.reasons.limits_of_metric(METRIC) == ["the runs are of 2 codes, which the sweep allows"]


def test_controls_and_sensitivity_limit_their_metric_but_no_cost(findings):
    metrics = findings.evidence.metrics.copy()
    is_control = (metrics["arm"] == "positive_control") & (metrics["metric"] == METRIC)
    metrics.loc[is_control, "value"] -= 2  # it is better, which is the wrong side
    blind = {METRIC: replace(findings.sensitivity[METRIC], is_blind=True)}
    for found, note in (
        (judged_with(findings, metrics=metrics), f"positive control failed in {METRIC}"),
        (judged_again(findings, findings.evidence, seen=blind), f"{METRIC} is not sensitive at this scale"),
        (judged_again(findings, findings.evidence, seen={}), f"the sensitivity of {METRIC} was not measured"),
    ):
        assert found.reasons.limits_of_metric(METRIC) == [note]
        assert found.reasons.limits_of_metric() == []


def test_failed_runs_of_arm_and_baseline_are_named(findings):
    found = judged_with(findings, missing=missing(("causal", 4, True), ("uniform", 4, True), ("fixed_25", 4, True)))
    assert found.reasons.limits_of_arm("causal") == [
        f"1 of 5 runs of {STUDY.label('causal')} failed",
        "1 of 5 runs of uniform on 1..I-1 failed",
    ]


def without_runs(findings, arm, keep):
    """Return the runs but those of an arm whose seeds are not kept."""
    runs = findings.evidence.runs
    return {"runs": runs[(runs["arm"] != arm) | runs["seed"].isin(keep)]}


LIMITS = {  # what is changed in the evidence of the arm "causal" or of others, and what limits that arm
    "missing": (
        lambda findings: {"missing": missing(("causal", 4, False), ("causal", 5, False), ("causal", 6, True))},
        [f"1 of 7 runs of {STUDY.label('causal')} failed", "2 of 7 seeds missing"],
    ),
    "one": (
        lambda findings: without_runs(findings, "causal", [2]),
        ["1 of the baseline's 4 seeds", "one seed, so no interval"],
    ),
    "fewer": (lambda findings: without_runs(findings, "causal", [0, 1]), ["2 of the baseline's 4 seeds"]),
    "more": (lambda findings: without_runs(findings, "uniform", [0, 1]), []),
    "not requested": (lambda findings: without_runs(findings, "causal", []), []),
    "another": (lambda findings: without_runs(findings, "fixed_25", [0]), []),
}


@pytest.mark.parametrize("name", LIMITS)
def test_seeds_that_limit_an_arm_are_counted(findings, name):
    change, notes = LIMITS[name]
    assert judged_with(findings, **change(findings)).reasons.limits_of_arm("causal") == notes


def test_single_seed_is_said_of_the_metric_that_has_one(findings):
    metrics = findings.evidence.metrics
    gone = (metrics["arm"] == "causal") & (metrics["metric"] == METRIC) & (metrics["seed"] > 0)
    found = judged_with(findings, metrics=metrics[~gone])
    assert found.reasons.limits_of_arm("causal", METRIC) == ["one seed, so no interval"]
    assert found.reasons.limits_of_arm("causal", "causal_content_loss") == []


def test_budget_is_noted_in_the_cost_that_the_study_holds_equal(findings):
    runs = findings.evidence.runs.copy()
    runs.loc[runs["arm"] == "causal", "train_flops"] *= 1.5
    evidence = replace(findings.evidence, runs=runs)
    assert judged_again(findings, evidence).reasons.limits_of_arm("causal") == []
    found = judged_again(findings, evidence, study=replace(STUDY, equal="flops"))
    assert found.reasons.limits_of_arm("causal") == ["unequal: 1.50 x FLOPs"]
    assert found.reasons.limits_of_arm("fixed_25") == found.reasons.limits_of_arm(UNTRAINED) == []


@pytest.mark.parametrize(("factor", "expected"), [(1.005, False), (1.011, True), (0.98, True)])
def test_one_per_cent_is_equal(findings, factor, expected):
    runs = findings.evidence.runs.astype({"samples": float})
    runs.loc[runs["arm"] == "causal", "samples"] *= factor
    assert Reasons(STUDY, replace(findings.evidence, runs=runs)).is_unequal("causal") == expected


def test_epochs_beyond_the_stated_number_are_named_by_source(findings):
    rows = [
        dict(zip(MIXTURE_COLUMNS[:6], ("causal", seed, source, 10, 5, epochs), strict=True))
        for seed in (0, 1)
        for source, epochs in (("few", 4.0), ("many", 6.2 + seed / 5))
    ]
    found = judged_with(findings, mixture=pd.DataFrame(rows))
    assert found.reasons.limits_of_arm("causal") == ["6.3 epochs of many, more than 4"]
    assert found.reasons.limits_of_arm("fixed_25") == []


POSITIONS = STUDIES["positions"]
SINCOS = "untrained_sincos"
NAMES = {"learned": UNTRAINED, "sincos": SINCOS, "decoder": UNTRAINED}
WORSE = expect("sincos", "worse", than="learned", metric=READER, margin=0.1)
CLAIM = "swiglu-rmsnorm"  # any


def evidence_before(effects, *, more=(SINCOS,), metrics=(READER, CONTENT), spread=0.01, study=POSITIONS):
    return evidence_of(study, effects, spread=spread, metrics=metrics, more=more)


def qualified(evidence, expectations=WORSE, names=NAMES, study=POSITIONS):
    return Reasons(study, evidence, untrained=names).before_training(expectations)


def untrained_of_arms(cells):
    return untrained_names(POSITIONS, {cell.arm: cell.config for cell in cells})


def test_names_follow_from_the_cells_whether_or_not_they_include_untrained_encoders():
    cells = expand(POSITIONS, with_attention(SCALES["demo"]()), seeds=[0])
    assert untrained_of_arms(cells) == NAMES
    assert untrained_of_arms([cell for cell in cells if cell.arm in POSITIONS.arms]) == NAMES, "as in older records"


def test_a_difference_before_training_limits_the_arm_in_metrics_of_the_encoder():
    evidence = evidence_before({SINCOS: 0.2})
    paired = evidence.value(READER, SINCOS) - evidence.value(READER, UNTRAINED)
    low, high = stats.t.interval(0.95, len(paired) - 1, paired.mean(), stats.sem(paired))
    reasons = Reasons(POSITIONS, evidence, untrained=NAMES)
    shown = f"{paired.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    assert reasons.limits_of_arm("sincos", READER) == [f"before training {shown} from the baseline already"]
    assert reasons.limits_of_arm("sincos", CONTENT) == reasons.limits_of_arm("decoder", READER) == []
    absent = Reasons(POSITIONS, evidence_before({}, more=()), untrained=NAMES)
    assert absent.limits_of_arm("sincos", READER) == ["not measured before training"]
    assert Reasons(POSITIONS, evidence_before({}), untrained=NAMES).limits_of_arm("sincos", READER) == []


@pytest.mark.parametrize(
    ("effect", "start"),
    [
        (0.3, f"the encoders differ before training ({READER}, sine and cosine minus learned: +0."),
        (-0.3, f"the encoders differ before training ({READER}, sine and cosine minus learned: -0."),
        (0.0, ""),
        (0.05, ""),  # detected, within the margin
    ],
)
def test_a_difference_before_training_qualifies_unless_it_is_within_the_margin(effect, start):
    notes = qualified(evidence_before({SINCOS: effect}, spread=0.005))
    assert len(notes) == bool(start)
    assert all(note.startswith(start) and note.endswith("not the effect of training alone") for note in notes)


def test_a_difference_that_is_not_ruled_out_qualifies_too():
    (note,) = qualified(evidence_before({}, spread=1.0))
    assert note.startswith("the encoders may differ by the margin before training")


def test_what_was_not_measured_is_named_where_encoders_differ_and_only_there():
    evidence = evidence_before({}, more=())
    assert qualified(evidence) == ["not measured before training, where encoders differ: sine and cosine"]
    assert qualified(evidence, expect("decoder", "worse", than="learned", metric=READER)) == []
    assert qualified(evidence, expect("sincos", "worse", than="learned", metric=CONTENT)) == [], "of the decoder too"
    assert qualified(evidence, names={}) == []


SCALING = STUDIES["scaling"]
SIZES = {"size_100_samples_200": 0, "size_200_samples_200": 1}


def test_a_slope_over_sizes_is_taken_before_training_too_and_one_over_samples_is_not():
    names = {
        arm: UNTRAINED if arm.startswith("size_100") else f"untrained_{arm[:8]}_samples_025" for arm in SCALING.arms
    }
    wider = "untrained_size_200_samples_025"
    evidence = evidence_before({wider: -0.5}, more=[wider], metrics=(READER,), study=SCALING)
    over_sizes = Combination(name="slope", metric=READER, weights=slope(SIZES), relation="better", margin=0.1)
    levels = {f"size_200_samples_{level}": place for place, level in enumerate(("025", "050", "100", "200"))}
    over_samples = replace(over_sizes, weights=slope(levels))
    mean = (evidence.value(READER, wider) - evidence.value(READER, UNTRAINED)).mean()
    (note,) = qualified(evidence, [over_sizes, over_samples], names, SCALING)
    assert note.startswith(f"the encoders differ before training ({READER}, slope: {mean:+.3f} [")
    assert note.count(READER) == 1


@pytest.mark.parametrize(("trained", "word"), [(0.5, Word.SUPPORTED), (0.1, Word.UNDECIDED)])
def test_a_verdict_is_qualified_and_not_withheld(trained, word):
    study = replace(POSITIONS, claims={CLAIM: WORSE})
    effects = {SINCOS: 0.3, "sincos": trained, ("sincos", INK): -trained}
    evidence = evidence_before(effects, metrics=(READER, INK), spread=0.03)
    config = with_attention(SCALES["demo"]())
    parts = {"controls": passed_controls(study), "sensitivity": sensitive(READER, INK)}
    plain = verdicts(Reasons(study, evidence, **parts), config)[CLAIM]
    found = verdicts(Reasons(study, evidence, untrained=NAMES, **parts), config)[CLAIM]
    assert (found.word, found.evidence) == (plain.word, plain.evidence)
    more = found.qualifications[len(plain.qualifications) :]
    assert found.word is word
    is_decided = word is Word.SUPPORTED
    assert [note.startswith("the encoders differ before training") for note in more] == [True] * is_decided


MASKED = "causal_content_loss"


def checked(study, evidence, metric=METRIC):
    return [one for one in check_controls(study, evidence) if one.metric == metric]


def withheld_by(controls, metrics):
    return Reasons(STUDY, evidence_from([], []), controls).of_controls(metrics)


@pytest.mark.parametrize(
    ("null", "positive", "spread", "results", "words"),
    [
        (0.0, 1.0, 0.003, ["passed", "passed"], "the study detects it"),
        (0.3, 0.0, 0.003, ["failed", "failed"], "no difference larger than the margin"),
        (0.0, -1.0, 0.003, ["passed", "failed"], "on the wrong side: with shuffled captions the metric is better"),
        (0.0, 0.0, 0.5, ["passed", "inconclusive"], "does not detect"),
    ],
)
def test_control_result_follows_from_its_effect(null, positive, spread, results, words):
    effects = {"null_control": null, "positive_control": positive}
    outcomes = checked(STUDY, evidence_of(STUDY, effects, spread=spread, shared=0))
    assert [one.control for one in outcomes] == ["null_control", "positive_control"]
    assert [one.result for one in outcomes] == results
    assert words in outcomes[1].reason


def test_controls_are_checked_in_every_metric_that_decides():
    assert STUDY.deciding_metrics == [METRIC, MASKED]
    effects = {("positive_control", METRIC): 1.0, ("positive_control", MASKED): -1.0}
    outcomes = check_controls(STUDY, evidence_of(STUDY, effects, spread=0.01, shared=0, metrics=(METRIC, MASKED)))
    results = {(one.control, one.metric): one.result for one in outcomes}
    assert results["positive_control", METRIC] == "passed"
    assert results["positive_control", MASKED] == "failed"
    assert withheld_by(outcomes, [METRIC]) == []
    assert withheld_by(outcomes, [METRIC, MASKED]) == ["positive control failed in causal_content_loss"]


def test_controls_that_were_left_out_or_have_no_values_were_not_measured():
    unmeasured = check_controls(STUDY, evidence_from([], []))
    assert {one.result for one in unmeasured} == {"not measured"}
    assert withheld_by(unmeasured, [METRIC])[0] == f"null control was not measured in {METRIC}"
    outcomes = checked(replace(STUDY, controls=("null_control",)), evidence_of(STUDY, {}, spread=0.01, shared=0))
    assert [one.result for one in outcomes] == ["passed", "not measured"]
    assert withheld_by(outcomes, [METRIC]) == ["positive control was not measured in content_loss"]
    assert "launched without it" in outcomes[1].reason


def test_control_with_a_failed_run_is_inconclusive():
    evidence = evidence_of(STUDY, {"positive_control": 1.0}, spread=0.01)
    positive = checked(STUDY, replace(evidence, missing=missing(("positive_control", 4, True))))[1]
    reason = f"1 of 5 runs of {STUDY.label('positive_control')} failed."
    assert (positive.result, positive.reason) == ("inconclusive", reason)


def test_null_control_is_compared_unpaired_at_99_percent(evidence):
    values = evidence.values("content_loss")
    expected = stats.ttest_ind(values["null_control"], values["uniform"], equal_var=False).confidence_interval(0.99)
    null = next(one for one in check_controls(STUDY, evidence) if one.control == "null_control")
    assert f"[{expected.low:+.3f}, {expected.high:+.3f}]" in null.reason
    assert expected.high - expected.low > 4, "the seeds differ widely, and that does not cancel"


def test_positive_control_is_compared_by_seed_at_95_percent_over_seeds_and_items(evidence):
    """Items that differ from run to run widen the interval of the positive control and not that of the null control."""
    values, rng = evidence.values(METRIC), np.random.default_rng(0)
    by_seed = values["positive_control"] - values["uniform"]
    parts = {run: pd.Series(rng.normal(0, 0.1, 50)) for run in evidence.runs_of(evidence.runs)}
    item_effect = pd.Series(rng.normal(0, 0.5, 50))
    parts |= {run: part + item_effect for run, part in parts.items() if run[0].endswith("_control")}
    for items, covers in ((ItemMoments(), "seeds"), (ItemMoments(lambda metric: parts), "seeds and items")):
        null, positive = checked(STUDY, replace(evidence, items=items))
        interval = stats.ttest_rel(values["positive_control"], values["uniform"]).confidence_interval(0.95)
        is_wider = f"[{interval.low:+.3f}, {interval.high:+.3f}]" not in positive.reason
        assert is_wider == (covers == "seeds and items")
        assert f"{by_seed.mean():+.3f} [" in positive.reason
        assert f"95 %, n = 4, own error, covers {covers}." in positive.reason
        assert "99 %, n = 4, own error, covers seeds." in null.reason


def test_a_confirmation_of_a_search_needs_no_controls_but_those_that_it_has_must_pass():
    arms = {"uniform": STUDY.arms["uniform"], WINNER: STUDY.arms["causal"]}
    search = confirmation(STUDY, arms)
    assert check_controls(search, evidence_of(search, {WINNER: -0.1}, spread=0.01)) == []
    controlled = replace(search, controls=("null_control",))
    (null,) = check_controls(controlled, evidence_of(controlled, {"null_control": 0.3}, spread=0.003, shared=0))
    assert (null.control, null.result) == ("null_control", "failed")
