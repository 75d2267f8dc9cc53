"""Checks of a study's controls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ablations.catalogue import STUDIES
from ablations.study import Control, Study
from analysis.compare import Comparison, against_baseline
from analysis.intervals import LEVEL, judge
from analysis.load import Evidence

NULL_LEVEL = 0.99  # at 95 %, one of the 17 studies would fail by chance more often than not


@dataclass(frozen=True)
class ControlOutcome:
    """The result of a control, and the reason."""

    control: Control
    result: Literal["passed", "failed", "inconclusive"]
    reason: str


def check_controls(study: Study, evidence: Evidence) -> list[ControlOutcome]:
    """Compare the controls with the baseline: the null control unpaired at 99 %, the positive paired at 95 %."""
    return [_check(study, control, evidence) for control in study.controls]


def _check(study: Study, control: Control, evidence: Evidence) -> ControlOutcome:
    is_null = control == "null_control"
    estimate = against_baseline(study, evidence, study.primary_metric, control, NULL_LEVEL if is_null else LEVEL)
    if not estimate.has_interval:
        return ControlOutcome(control, "inconclusive", "There are too few seeds.")
    shown = estimate.text()
    if is_null and estimate.excludes_zero:
        reason = f"Other seeds alone differ: {shown}. Differences between arms are not reliable."
        return ControlOutcome(control, "failed", reason)
    if is_null:
        reason = f"Other seeds do not differ detectably from the baseline: {shown}."
        return ControlOutcome(control, "passed", reason)
    if judge(estimate, study.equivalence_margin, lower_is_better=study.lower_is_better).direction == "worse":
        reason = f"Shuffled captions make the model worse, and the study detects it: {shown}."
        return ControlOutcome(control, "passed", reason)
    reason = (
        f"The study does not detect that shuffled captions are harmful: {shown}. It cannot detect smaller effects"
        " either."
    )
    return ControlOutcome(control, "failed", reason)


def null_note(study: Study, comparisons: Mapping[str, Comparison], evidence: Evidence) -> str:
    """Describe what the null control tests, how often it fails by chance, and the gain of pairing."""
    num_studies = len(STUDIES)
    note = (
        "The null control has other seeds than the baseline, so the two means are compared unpaired (Welch), at"
        f" {100 * NULL_LEVEL:.0f} %. One null control in {1 / (1 - NULL_LEVEL):.0f} fails by chance; over all"
        f" {num_studies} studies, the probability that at least one fails by chance is up to"
        f" {100 * (1 - NULL_LEVEL**num_studies):.0f} %. The control tests whether other seeds alone pass for an effect."
        " It does not test the pairing."
    )
    null = against_baseline(study, evidence, study.primary_metric, "null_control")
    paired = sorted(one.difference.error for one in comparisons.values() if one.difference.has_interval)
    if null.has_interval and paired:
        low, high = f"{paired[0]:.2g}", f"{paired[-1]:.2g}"
        errors = low if low == high else f"{low} to {high}"
        note += (
            f" The standard error of the arms' paired differences is {errors}; that of this"
            f" unpaired difference is {null.error:.2g}. The gap shows what pairing gains."
        )
    return note
