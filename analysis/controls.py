"""Whether a study's controls passed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablations.catalogue import STUDIES
from ablations.study import Control, Study
from analysis.compare import Comparison, against_baseline
from analysis.intervals import Estimate, direction
from analysis.load import Evidence

NULL_LEVEL = 0.99  # at 95 %, one of the 17 studies would fail by chance more often than not

Result = Literal["passed", "failed", "inconclusive"]


@dataclass(frozen=True)
class ControlOutcome:
    """The result of a control, and the reason."""

    control: Control
    result: Result
    reason: str


def check_controls(study: Study, evidence: Evidence) -> list[ControlOutcome]:
    """Compare the controls with the baseline: the null control unpaired at 99 %, the positive paired at 95 %."""
    values = evidence.values(study.primary_metric)
    outcomes = []
    for name in study.controls:
        if name == "null_control":
            result, reason = _null(against_baseline(study, values, name, NULL_LEVEL))
        else:
            result, reason = _positive(study, against_baseline(study, values, name))
        outcomes.append(ControlOutcome(name, result, reason))
    return outcomes


def failed_controls(outcomes: Sequence[ControlOutcome]) -> list[Control]:
    """Return the controls that failed."""
    return [outcome.control for outcome in outcomes if outcome.result == "failed"]


def null_note(study: Study, comparisons: Mapping[str, Comparison], evidence: Evidence) -> str:
    """Describe what the null control tests, how often it fails by chance, and the gain of pairing."""
    num_studies = len(STUDIES)
    sentences = [
        "The null control has other seeds than the baseline, so the two means are compared unpaired (Welch), at"
        f" {100 * NULL_LEVEL:.0f} %. One null control in {1 / (1 - NULL_LEVEL):.0f} fails by chance; over all"
        f" {num_studies} studies, the probability that at least one fails by chance is up to"
        f" {100 * (1 - NULL_LEVEL**num_studies):.0f} %.",
        "The control tests whether other seeds alone pass for an effect. It does not test the pairing.",
    ]
    null = against_baseline(study, evidence.values(study.primary_metric), "null_control")
    paired = sorted(one.difference.error for one in comparisons.values() if one.difference.has_interval)
    if null.has_interval and paired:
        sentences.append(
            f"The standard error of the arms' paired differences is {paired[0]:.2g} to {paired[-1]:.2g}; that of this"
            f" unpaired difference is {null.error:.2g}. The gap shows what pairing gains."
        )
    return " ".join(sentences)


def _null(estimate: Estimate) -> tuple[Result, str]:
    if not estimate.has_interval:
        return "inconclusive", "There are too few seeds."
    if estimate.excludes_zero:
        return "failed", f"Other seeds alone differ: {estimate.short}. Differences between arms are not reliable."
    return "passed", f"Other seeds do not differ detectably from the baseline: {estimate.short}."


def _positive(study: Study, estimate: Estimate) -> tuple[Result, str]:
    if not estimate.has_interval:
        return "inconclusive", "There are too few seeds."
    if direction(estimate, lower_is_better=study.lower_is_better) == "worse":
        return "passed", f"Shuffled captions make the model worse, and the study detects it: {estimate.short}."
    return "failed", (
        f"The study does not detect that shuffled captions are harmful: {estimate.short}. It cannot detect"
        " smaller effects either."
    )
