"""Checks of a study's controls, in every metric that decides something."""

from aimv2.ablations.study import Control, Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import NOT_MEASURED
from aimv2.analysis.inference.relations import finding
from aimv2.analysis.judgement.differences import Differences
from aimv2.analysis.judgement.withheld import ControlOutcome, Reasons
from aimv2.definitions.metrics import lower_is_better

NULL_LEVEL = 0.99
REQUIRED: tuple[Control, ...] = ("null_control", "positive_control")


def check_controls(study: Study, evidence: Evidence) -> list[ControlOutcome]:
    """Compare both controls with the baseline in every metric that decides: the null at 99 %, the positive at 95 %.

    Metrics that the data cannot have are left out. The confirmation of a search needs no controls of its own: what its
    primary metric can detect is known from the sensitivity study, without which nothing is concluded either.
    """
    reasons = Reasons(study, evidence)
    return [
        _check(reasons, control, metric)
        for control in (study.controls if study.is_search else REQUIRED)
        for metric in study.deciding_metrics
        if not evidence.why_absent(metric)
    ]


def _check(reasons: Reasons, control: Control, metric: str) -> ControlOutcome:
    if control not in reasons.study.controls:
        return ControlOutcome(control, metric, "inconclusive", "The sweep was launched without it.")
    if notes := reasons.of_arm(control):
        return ControlOutcome(control, metric, "inconclusive", f"{'; '.join(notes)}.")
    if not reasons.differences.separately(metric, control).n:
        return ControlOutcome(control, metric, NOT_MEASURED, "It was not measured with seeds of the baseline.")
    if control == "null_control":
        return _null(reasons.differences, metric)
    return _positive(reasons.differences, reasons.study, metric)


def _null(differences: Differences, metric: str) -> ControlOutcome:
    """Judge the null control, which has other seeds than the baseline: the two means are compared unpaired (Welch)."""
    estimate = differences.separately(metric, "null_control", NULL_LEVEL)
    if not estimate.has_interval:
        return ControlOutcome("null_control", metric, "inconclusive", "There are too few seeds.")
    shown = f"{estimate.text()}, {estimate.basis}"
    if estimate.excludes_zero:
        why = f"Other seeds alone differ: {shown}. Differences between arms are not reliable."
        return ControlOutcome("null_control", metric, "failed", why)
    why = f"Other seeds do not differ detectably from the baseline: {shown}."
    return ControlOutcome("null_control", metric, "passed", why)


def _positive(differences: Differences, study: Study, metric: str) -> ControlOutcome:
    estimate = differences.separately(metric, "positive_control", covers_items=True)
    if not estimate.has_interval:
        return ControlOutcome("positive_control", metric, "inconclusive", "There are too few seeds.")
    shown = f"{estimate.text()}, {estimate.basis}"
    observed = finding(estimate, study.margin(metric), lower_is_better=lower_is_better(metric))
    shuffled = "shuffled captions" if study.base is None else "shuffled targets"
    if observed.direction == "worse":
        why = f"{shuffled.capitalize()} are harmful, and the study detects it: {shown}."
        return ControlOutcome("positive_control", metric, "passed", why)
    if observed.direction == "better":
        why = f"The effect is on the wrong side: with {shuffled} the metric is better: {shown}."
        return ControlOutcome("positive_control", metric, "failed", why)
    if observed.is_small:
        why = f"{shuffled.capitalize()} make no difference larger than the margin: {shown}."
        return ControlOutcome("positive_control", metric, "failed", why)
    why = f"The study does not detect that {shuffled} are harmful: {shown}."
    return ControlOutcome("positive_control", metric, "inconclusive", why)
