"""Sentences on the primary metric, and on differences in the others."""

from collections.abc import Mapping, Sequence

from aimv2.ablations.study import Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import (
    NOT_MEASURED,
    POWER,
    Estimate,
    bonferroni,
    detectable_difference,
    percent,
)
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.compare import Comparison, Differences, reasons_to_withhold
from aimv2.base.markdown import escape

NO_TWO_SEEDS = "no arm shares two seeds with the baseline"


def conclusion(
    study: Study,
    comparisons: Mapping[str, Comparison],
    unit: str,
    withheld: Sequence[str] = (),
    lacks_metric: str = "",
) -> str:
    """Return the study's result in a few sentences.

    Args:
        comparisons: the requested arms but the baseline, with simultaneous intervals.
        withheld: why nothing is concluded: runs of different code, controls that did not pass in the primary metric,
            or its lack of sensitivity.
        lacks_metric: how many finished runs lack the primary metric, as a clause; empty if none does.
    """
    num_seeds = [one.difference.n for one in comparisons.values() if one.difference.has_interval]
    if not num_seeds:
        return f"No conclusion: {lacks_metric or NO_TWO_SEEDS}."
    if withheld:
        notes = "; ".join(withheld)
        return f"No conclusion: {notes}. The study can confirm neither differences nor equivalence."
    seeds = " to ".join(str(n) for n in sorted({min(num_seeds), max(num_seeds)}))
    context = f"the baseline ({study.label(study.baseline)}) in {study.primary_metric} over {seeds} seeds"
    margin = f"±{study.primary_margin:.3g} {unit}"
    effects, of_classes = [], []
    arms: dict[str, list[str]] = {"equivalent": [], "inconclusive": [], "too few": [], NOT_MEASURED: []}
    notes_on_failures: dict[str, None] = {}
    for arm, one in comparisons.items():
        estimate, label = one.difference, study.label(arm)
        if one.withheld:
            notes_on_failures[one.withheld] = None
        elif one.observed.direction != "unclear":
            small = ", within the margin" * one.observed.is_small
            amount = f"{abs(estimate.mean):.3f} {unit} (simultaneous {absolute_bounds(estimate)}{small})"
            told = f", {one.parts.text_with_rest}" if one.parts else ""
            effects.append(f"{label} is {one.observed.direction} by {amount}{told}")
        else:
            arms[one.shows if estimate.has_interval or not estimate.n else "too few"].append(label)
            of_classes += [
                f"{label}, {name} words: {seen.text()} {unit} ({percent(seen.level, 2)} %, covers {seen.covers})"
                for name, seen in (one.parts.seen if one.parts else {}).items()
            ]
    sentences = []
    if effects:
        sentences.append(f"Compared with {context}: {'; '.join(effects)}.")
    if arms["equivalent"]:
        other = "it" if effects else context
        sentences.append(f"Equivalent to {other} within {margin}: {'; '.join(arms['equivalent'])}.")
    if not sentences and arms["inconclusive"]:
        sentences.append(
            f"Inconclusive: no arm differs detectably from {context}, but differences larger than the equivalence"
            f" margin ({margin}) are not ruled out either."
        )
    elif arms["inconclusive"]:
        sentences.append(f"Inconclusive: {'; '.join(arms['inconclusive'])}.")
    if of_classes:
        sentences.append(f"Seen in single classes of words all the same: {'; '.join(of_classes)}.")
    if arms["too few"]:
        sentences.append(f"Too few seeds: {'; '.join(arms['too few'])}.")
    if arms[NOT_MEASURED]:
        sentences.append(f"Not measured with the baseline's seeds: {'; '.join(arms[NOT_MEASURED])}.")
    if notes_on_failures:
        sentences.append(f"Not judged: {'; '.join(notes_on_failures)}.")
    return " ".join(sentences)


def code_note(study: Study, evidence: Evidence) -> str:
    """Say how many runs are of which code if they differ, and whether verdicts are drawn from them; else empty."""
    if len(evidence.codes) < 2:
        return ""
    each = ", ".join(f"{escape(code)} ({count} run{'s' * (count > 1)})" for code, count in evidence.codes.items())
    mixture = f"The runs are of different code: {each}."
    if study.allow_mixed_code:
        return f"{mixture} Verdicts are drawn from the mixture, as sweep.allow_mixed_code=true requests."
    return (
        f"{mixture} An edit of the code can change numbers, so nothing is concluded from the mixture, unless the sweep"
        " is launched with sweep.allow_mixed_code=true. For runs of one code, delete the folders of the others and"
        " launch again with code= and its digest."
    )


def power(study: Study, comparisons: Mapping[str, Comparison], unit: str, withheld: Sequence[str] = ()) -> str:
    """Compare the minimum detectable difference with the margin; empty if there are too few seeds.

    Args:
        withheld: why nothing is concluded.
    """
    known = [one for one in comparisons.values() if one.difference.has_interval and not one.withheld]
    detectable = [detectable_difference(one.difference) for one in known]
    if not detectable:
        return ""
    low, high = (f"{value:.2g}" for value in (min(detectable), max(detectable)))
    amount = f"{low} {unit}" if low == high else f"{low} to {high} {unit}, depending on the arm"
    if max(detectable) <= study.primary_margin:
        rest = f"These seeds suffice to detect differences of the equivalence margin, {study.primary_margin:.3g}."
    elif not withheld and len(known) == len(comparisons) and all(one.shows != "inconclusive" for one in known):
        rest = "Every arm was seen to differ or to be equivalent."
    else:
        rest = (
            f"The equivalence margin is {study.primary_margin:.3g}, so differences larger than the margin may have"
            " been missed. More seeds would detect them; that is another look, at a higher level."
        )
    return f"Minimum detectable difference ({100 * POWER:.0f} % power), from the observed spread: {amount}. {rest}"


def look_note(look: Look) -> str:
    """Say which look at the study this is, and the level of what decides."""
    note = f"This is look {look.number} at the study"
    if look.earlier:
        seeds = "; ".join(", ".join(str(seed) for seed in one) for one in look.earlier)
        note += f" (earlier: seeds {seeds})"
    level = percent(look.level)
    return f"{note}, so all that decides has the level {level} %. Over any number of looks the errors add up to 5 %."


def findings(study: Study, evidence: Evidence) -> list[str]:
    """Return a sentence for each detected difference in another metric, with simultaneous 95 % intervals for all.

    The controls are among them; each of the metrics, and in it each control, has a share of the error rate.
    """

    def is_whole(arm: str) -> bool:
        return not reasons_to_withhold(study, evidence, [arm, study.baseline])

    present = [arm for arm in study.arms if arm != study.baseline and is_whole(arm)]
    controls = [control for control in study.controls if is_whole(control)]
    metrics = [name for name in dict.fromkeys(evidence.metrics["metric"]) if name != study.primary_metric]
    differences, found = Differences(study, evidence), []
    level = bonferroni(len(metrics) * (1 + len(study.controls)))
    for metric in metrics:
        estimates = differences.from_baseline(metric, present, level)
        estimates |= {control: differences.separately(metric, control, level) for control in controls}
        unit = evidence.unit(metric)
        for arm, estimate in estimates.items():
            if estimate.excludes_zero:
                side = "above" if estimate.mean > 0 else "below"
                amount = f"{abs(estimate.mean):.3f} {unit} (simultaneous {absolute_bounds(estimate)})"
                name = f"{study.label(arm)} (control)" if arm in study.controls else study.label(arm)
                found.append(f"{metric}: {name} is {side} the baseline by {amount}.")
    return found


def warnings(study: Study, evidence: Evidence) -> list[str]:
    """Return a sentence for each warning of a metric, with the number of runs of each arm that have it."""
    doubtful = evidence.metrics[evidence.metrics["warning"] != ""]
    found = []
    for (metric, warning), rows in doubtful.groupby(["metric", "warning"], sort=False):
        counts = rows["arm"].value_counts(sort=False)
        arms = "; ".join(
            f"{study.label(arm)}, {counts[arm]} {'run' if counts[arm] == 1 else 'runs'}"
            for arm in study.cell_names
            if arm in counts
        )
        found.append(f"{metric}: {warning} ({arms}).")
    return found


def absolute_bounds(estimate: Estimate) -> str:
    """Return the interval of the size of a difference whose direction is known."""
    low, high = sorted((abs(estimate.low), abs(estimate.high)))
    return f"{percent(estimate.level, 2)} % interval {low:.3f} to {high:.3f}, covers {estimate.covers}"
