"""Checks of a study's controls, in every metric that decides something."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from aimv2.ablations.expectations import Expectation, Expected
from aimv2.ablations.study import UNTRAINED, Control, Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import NOT_MEASURED
from aimv2.analysis.inference.relations import finding
from aimv2.analysis.judgement.compare import Differences, reasons_to_withhold
from aimv2.spec.metrics import lower_is_better

Result = Literal["passed", "failed", "inconclusive", "not measured"]

NULL_LEVEL = 0.99
REQUIRED: tuple[Control, ...] = ("null_control", "positive_control")
NULL_NOTE = (
    "The null control has other seeds than the baseline, so the two means are compared unpaired (Welch), at"
    f" {100 * NULL_LEVEL:.0f} %. One in {1 / (1 - NULL_LEVEL):.0f} fails by chance. It is one test for each metric and"
    " baseline: studies with the same baseline share its runs, and fail or pass together. It tests whether other seeds"
    " alone pass for an effect, not the pairing."
)


@dataclass(frozen=True)
class ControlOutcome:
    """The result of a control in a metric, and the reason."""

    control: Control
    metric: str
    result: Result
    reason: str

    @property
    def note(self) -> str:
        """The result in a few words."""
        verb = {"inconclusive": "is ", "not measured": "was "}.get(self.result, "")
        return f"{self.control.replace('_', ' ')} {verb}{self.result} in {self.metric}"


def check_controls(study: Study, evidence: Evidence) -> list[ControlOutcome]:
    """Compare both controls with the baseline in every metric that decides: the null at 99 %, the positive at 95 %.

    Metrics that the data cannot have are left out. The confirmation of a search needs no controls of its own: what its
    primary metric can detect is known from the sensitivity study, without which nothing is concluded either.
    """
    differences = Differences(study, evidence)
    return [
        _check(study, evidence, differences, control, metric)
        for control in (study.controls if study.is_search else REQUIRED)
        for metric in study.deciding_metrics
        if not evidence.why_absent(metric)
    ]


def withholding(controls: Sequence[ControlOutcome], metrics: Iterable[str]) -> list[str]:
    """Return a note for each control that did not pass in one of these metrics; each withholds verdicts."""
    wanted = set(metrics)
    return [one.note for one in controls if one.metric in wanted and one.result != "passed"]


def offsets(study: Study, evidence: Evidence, expectations: Iterable[Expected]) -> list[str]:
    """Return a note for each two metrics that an expectation compares and that may differ before training.

    The untrained encoder is the control: on it the difference of the two metrics must be shown to lie within the
    margin.
    """
    differences = Differences(study, evidence)
    notes = []
    for one in expectations:
        if not isinstance(one, Expectation) or one.metric == one.than_metric:
            continue
        pair = f"{one.metric} and {one.than_metric}"
        before = differences.of(UNTRAINED, one.metric, UNTRAINED, one.than_metric)
        if not before.has_interval:
            notes.append(f"{pair} were not measured on the untrained encoder with two seeds")
            continue
        margin = study.margin_of(one)
        found = finding(before, margin, lower_is_better=lower_is_better(one.metric))
        if found.is_small:
            continue
        if found.direction == "unclear":
            notes.append(
                f"{pair} of the untrained encoder differ by {before.text()}, which is not shown to be within the margin"
                f" of {margin:.2g}, so a difference after training may not come from training; more seeds narrow the"
                " interval"
            )
        else:
            notes.append(
                f"{pair} differ before training ({before.text()}), so their difference after training is not the effect"
                " of training alone"
            )
    return list(dict.fromkeys(notes))


def _check(study: Study, evidence: Evidence, differences: Differences, control: Control, metric: str) -> ControlOutcome:
    if control not in study.controls:
        return ControlOutcome(control, metric, "inconclusive", "The sweep was launched without it.")
    if notes := reasons_to_withhold(study, evidence, [control, study.baseline]):
        return ControlOutcome(control, metric, "inconclusive", f"{'; '.join(notes)}.")
    if not differences.separately(metric, control).n:
        return ControlOutcome(control, metric, NOT_MEASURED, "It was not measured with seeds of the baseline.")
    found = _null(differences, metric) if control == "null_control" else _positive(differences, study, metric)
    return ControlOutcome(control, metric, *found)


def _null(differences: Differences, metric: str) -> tuple[Result, str]:
    estimate = differences.separately(metric, "null_control", NULL_LEVEL)
    shown = f"{estimate.text()}, {estimate.basis}"
    if not estimate.has_interval:
        return "inconclusive", "There are too few seeds."
    if estimate.excludes_zero:
        return "failed", f"Other seeds alone differ: {shown}. Differences between arms are not reliable."
    return "passed", f"Other seeds do not differ detectably from the baseline: {shown}."


def _positive(differences: Differences, study: Study, metric: str) -> tuple[Result, str]:
    estimate = differences.separately(metric, "positive_control", covers_items=True)
    shown = f"{estimate.text()}, {estimate.basis}"
    found = finding(estimate, study.margin(metric), lower_is_better=lower_is_better(metric))
    if not estimate.has_interval:
        return "inconclusive", "There are too few seeds."
    shuffled = "shuffled captions" if study.base is None else "shuffled targets"
    if found.direction == "worse":
        return "passed", f"{shuffled.capitalize()} are harmful, and the study detects it: {shown}."
    if found.direction == "better":
        return "failed", f"The effect is on the wrong side: with {shuffled} the metric is better: {shown}."
    if found.is_small:
        return "failed", f"{shuffled.capitalize()} make no difference larger than the margin: {shown}."
    return "inconclusive", f"The study does not detect that {shuffled} are harmful: {shown}."
