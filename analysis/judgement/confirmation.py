"""The result of a search: its winner against the baseline on fresh seeds, and not the search's own best value."""

from typing import Literal

from aimv2.ablations.searches import Search
from aimv2.ablations.study import WINNER
from aimv2.analysis.judgement.compare import reasons_to_withhold
from aimv2.analysis.judgement.conclusions import absolute_bounds
from aimv2.analysis.judgement.findings import Findings
from aimv2.base.markdown import escape

Result = Literal["confirmed", "not confirmed", "no conclusion", "no winner"]


def result(findings: Findings) -> Result:
    """Return whether the winner is better than the baseline; ``no winner`` if the baseline is best, or no trial is."""
    return _judged(findings)[0]


def conclusion(findings: Findings) -> str:
    """Return the result of a search in a few sentences, as Markdown."""
    return _judged(findings)[1]


def _judged(findings: Findings) -> tuple[Result, str]:
    search, study = findings.search, findings.study
    assert search is not None, "only a search has a winner"
    if why := _without_winner(findings, search):
        return "no winner", why
    one, unit, name = findings.comparisons.get(WINNER), escape(findings.unit), f"*{study.label(WINNER)}*"
    if one is None or not one.difference.has_interval:
        return "no conclusion", (
            f"No conclusion: the winner of the search, {name}, does not share two finished seeds with the baseline yet."
            " Launch the same command again; it runs what is missing. The search's own best value is not the result."
        )
    difference, observed = one.difference, one.observed
    context = f"the baseline (*{study.label(study.baseline)}*) in {study.primary_metric}"
    judged: Result = "confirmed" if observed.direction == "better" else "not confirmed"
    if notes := findings.withheld or list(filter(None, [one.withheld])):
        judged, text = "no conclusion", f"No conclusion: {'; '.join(notes)}."
        if not reasons_to_withhold(study, findings.evidence, [WINNER, study.baseline]):
            shown = f"{difference.text()} {unit} ({difference.basis})"
            text += f" On fresh seeds the difference of {name} from {context} is {shown}, which is no verdict."
    elif observed.direction == "unclear":
        margin, shown = f"±{study.primary_margin:.3g} {unit}", f"{difference.text()} {unit}, {difference.basis}"
        text = (
            f"Not confirmed: on fresh seeds {name} is equivalent to {context} within {margin} ({shown})."
            if observed.is_small
            else f"Not confirmed: on fresh seeds {name} does not differ detectably from {context} ({shown}), and"
            f" differences larger than the equivalence margin ({margin}) are not ruled out either. More seeds would"
            " decide it."
        )
    else:
        small = ", within the equivalence margin" * observed.is_small
        told = f", {one.parts.text_with_rest}" if one.parts else ""
        text = (
            f"{judged.capitalize()}: on {difference.n} fresh seeds {name} is {observed.direction} than {context} by"
            f" {abs(difference.mean):.3f} {unit} ({absolute_bounds(difference)}{small}){told}."
        )
    return judged, f"{text} {_curse(search)}"


def _curse(search: Search) -> str:
    """Return what the search chose by, and why that is not the result."""
    assert search.winning is not None
    metric = search.metric
    value = f"{escape(metric.name)} {search.winning.value:.3f} {escape(metric.unit)}".rstrip()
    return (
        f"This is the confirmation of a search of {len(search.trials)} trials. The search's own best value, {value} on"
        f" the {escape(search.split)} split, is not the result: the best of many values is partly luck (winner's"
        " curse)."
    )


def _without_winner(findings: Findings, search: Search) -> str:
    """Return why there is no winner to confirm; empty if there is one."""
    study, num_trials = findings.study, len(search.trials)
    if not search.finished:
        one_or_none = "its only trial did not finish" if num_trials else "the search has no trial"
        which = f"none of the {num_trials} trials finished" if num_trials > 1 else one_or_none
        return f"No result: {which}, so there is no winner to confirm."
    if search.winning is None:
        return f"No result: the search names none of its {num_trials} trials as its winner."
    if WINNER in study.arms:
        return ""
    plural = "s" * (len(search.finished) != 1)
    best = f"the best of {len(search.finished)} finished trial{plural} of {num_trials}, trial {search.winner},"
    if search.is_baseline:
        label = study.label(study.baseline)
        return f"The baseline won: {best} is the baseline itself (*{label}*), so there is nothing to confirm."
    return (
        f"Not confirmed yet: {best} was not compared with the baseline on fresh seeds; launch the same command again to"
        " run what is missing."
    )
