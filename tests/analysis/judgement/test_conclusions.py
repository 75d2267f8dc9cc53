from dataclasses import replace

import pandas as pd

from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate
from aimv2.analysis.inference.relations import finding
from aimv2.analysis.judgement.compare import Comparison, primary_comparisons
from aimv2.analysis.judgement.conclusions import conclusion, findings, power, warnings
from tests.helpers.evidence import evidence_by_class
from tests.helpers.specimen import STUDY


def concluded(comparisons, withheld=()):
    return conclusion(STUDY, comparisons, "nats/token", withheld)


def compared(mean, error, *, n=4, df=30, withheld=""):
    estimate = Estimate(mean, error, df, n)
    return Comparison(
        estimate, finding(estimate, STUDY.primary_margin, lower_is_better=True), "open", withheld=withheld
    )


def test_conclusion_names_effects_and_the_other_arms(cells, evidence):
    text = concluded(primary_comparisons(STUDY, cells, evidence))
    assert text.startswith("Compared with the baseline (uniform on 1..I-1) in content_loss over 4 seeds: fixed at 75 %")
    assert "fixed at 75 % is worse by 0." in text
    assert "causal (prefix of 1 patch) is better by 0." in text
    assert text.endswith("Equivalent to it within ±0.02 nats/token: fixed at 50 %. Inconclusive: fixed at 25 %.")


def test_conclusion_names_the_classes_that_make_up_an_effect(cells):
    effects = {("fixed_50", "content_loss_place"): 0.6, ("fixed_50", "content_loss_ink"): 0.1}
    effects |= {("causal", "content_loss_place"): 0.1, ("causal", "content_loss_object"): -0.12}  # hide each other
    some = evidence_by_class(STUDY, effects, {"object": 500, "ink": 500, "place": 600, "count": 400}, spread=0.005)
    comparisons = primary_comparisons(STUDY, cells, some)
    told = comparisons["fixed_50"].parts.text_with_rest
    first, *_, last = concluded(comparisons).split(". ")
    assert " % of it place words (0.0" in told
    assert f"covers seeds), {told}" in first
    assert last.startswith("Seen in single classes of words all the same: ")
    assert "causal (prefix of 1 patch), object words: -0.1" in last


def test_nothing_is_concluded_without_two_shared_seeds():
    assert concluded({}) == "No conclusion: no arm shares two seeds with the baseline."
    assert concluded({"causal": compared(1, 0, n=1)}) == concluded({})


def test_undetected_difference_is_not_called_equivalent():
    text = concluded({"causal": compared(0.001, 0.1)})
    assert text.startswith("Inconclusive: no arm differs detectably from the baseline (uniform on 1..I-1)")
    assert "equivalence margin (±0.02 nats/token) are not ruled out" in text
    assert concluded({"causal": compared(0.001, 0.001)}) == (
        "Equivalent to the baseline (uniform on 1..I-1) in content_loss over 4 seeds within ±0.02 nats/token:"
        " causal (prefix of 1 patch)."
    )


def test_arms_with_too_few_seeds_are_named_after_the_others(cells, evidence):
    some = primary_comparisons(STUDY, cells, evidence) | {
        "causal": Comparison(NO_ESTIMATE, finding(NO_ESTIMATE, 0.02, lower_is_better=True), "worse"),
        "fixed_25": compared(0.1, 0, n=1),
    }
    text = concluded(some)
    assert "fixed at 75 % is worse by 0." in text
    assert text.endswith(
        "Too few seeds: fixed at 25 %. Not measured with the baseline's seeds: causal (prefix of 1 patch)."
    )


def test_arm_with_a_failed_run_is_not_judged():
    failed = "1 of 4 runs of causal failed"
    text = concluded({"causal": compared(0.5, 0.001, withheld=failed), "fixed_25": compared(0.001, 0.001)})
    assert text.endswith("within ±0.02 nats/token: fixed at 25 %. Not judged: 1 of 4 runs of causal failed.")
    assert concluded({"causal": compared(0.5, 0.001, withheld=failed)}) == f"Not judged: {failed}."


def test_findings_leave_out_arms_of_which_a_run_failed(evidence):
    missing = pd.DataFrame([("fixed_75", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    found = findings(STUDY, replace(evidence, missing=missing))
    assert found
    assert not any("75 %" in text for text in found)
    missing = pd.DataFrame([("uniform", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    assert findings(STUDY, replace(evidence, missing=missing)) == []


def test_control_that_did_not_pass_withholds_the_conclusion():
    notes = ["null control failed in content_loss", "positive control is inconclusive in content_loss"]
    text = concluded({"causal": compared(0.5, 0.001)}, withheld=notes)
    assert text.startswith(f"No conclusion: {'; '.join(notes)}.")
    assert "worse" not in text


def test_power_gives_the_range_of_minimum_detectable_differences():
    # 1.96 + 0.84 standard errors: 0.028 and 0.056.
    many = {
        "fixed_25": compared(0, 0.01, df=1e6),
        "causal": compared(0, 0.02, df=1e6),
        "fixed_75": compared(0, 0, n=1),
    }
    text = power(STUDY, many, "nats/token")
    assert "0.028 to 0.056 nats/token, depending on the arm" in text
    assert "may have been missed" in text
    sentence = power(STUDY, {"causal": compared(0, 0.005, df=1e6)}, "nats/token")
    assert sentence.endswith("These seeds suffice to detect differences of the equivalence margin, 0.02.")
    assert power(STUDY, {"fixed_75": compared(0, 0, n=1)}, "nats/token") == ""
    decided = power(STUDY, {"causal": compared(1, 0.1)}, "nats/token")
    assert decided.endswith("Every arm was seen to differ or to be equivalent."), "nothing has been missed"
    unmeasured = Comparison(NO_ESTIMATE, finding(NO_ESTIMATE, 0.02, lower_is_better=True), "open")
    for other in (unmeasured, compared(1, 0.1, withheld="a run failed")):
        assert "may have been missed" in power(STUDY, {"causal": compared(1, 0.1), "fixed_75": other}, "nats/token")
    assert "may have been missed" in power(STUDY, {"causal": compared(1, 0.1)}, "nats/token", ["a control failed"])


def test_findings_name_metric_arm_and_side(evidence):
    found = findings(STUDY, evidence)
    assert any(text.startswith("pixel_loss_0.5: fixed at 75 % is above the baseline by 0.05") for text in found)
    assert not any("probe" in text or "25 %" in text for text in found)
    label = STUDY.label("positive_control")
    assert any(f"{label} (control) is above" in text for text in found), "controls are shown too"
    assert not any(text.startswith("content_loss") for text in found), "the primary metric is no finding"


def test_warnings_name_metric_arms_and_number_of_runs(evidence):
    edge = "the chosen learning rate is the largest of the grid"
    metrics = evidence.metrics.copy()
    is_probe, seeds = metrics["metric"] == "probe_digits", metrics["seed"]
    metrics.loc[is_probe & (metrics["arm"] == "causal") & (seeds < 3), "warning"] = edge
    metrics.loc[is_probe & (metrics["arm"] == "untrained") & (seeds == 0), "warning"] = edge
    metrics.loc[(metrics["metric"] == "content_loss") & (metrics["arm"] == "uniform"), "warning"] = "few words"
    found = warnings(STUDY, replace(evidence, metrics=metrics))
    assert sorted(found) == [
        "content_loss: few words (uniform on 1..I-1, 4 runs).",
        f"probe_digits: {edge} (causal (prefix of 1 patch), 3 runs; untrained, 1 run).",
    ]
    assert warnings(STUDY, evidence) == []
