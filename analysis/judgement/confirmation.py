"""The result of a search: its winner against the baseline on fresh seeds, and not the search's own best value."""

from typing import Literal

from ablations.study import WINNER
from aimv2.base.markdown import escape
from analysis.evidence.searches import Search
from analysis.judgement.compare import reasons_to_withhold
from analysis.judgement.conclusions import absolute_bounds
from analysis.judgement.findings import Findings

Result = Literal["confirmed", "not confirmed", "no conclusion", "no winner"]


def result(findings: Findings) -> Result:
    """Return whether the winner is better than the baseline; ``no winner`` if the baseline is best, or no trial is."""
    if _without_winner(findings):
        return "no winner"
    if _without_estimate(findings) or _withheld(findings):
        return "no conclusion"
    return "confirmed" if findings.comparisons[WINNER].observed.direction == "better" else "not confirmed"


def conclusion(findings: Findings) -> str:
    """Return the result of a search in a few sentences, as Markdown."""
    search = _search(findings)
    if why := _without_winner(findings) or _without_estimate(findings):
        return why
    assert search.winning is not None
    study, one, unit = findings.study, findings.comparisons[WINNER], escape(findings.unit)
    difference, observed, name = one.difference, one.observed, f"*{study.label(WINNER)}*"
    context = f"the baseline (*{study.label(study.baseline)}*) in {study.primary_metric}"
    if notes := _withheld(findings):
        text = f"No conclusion: {'; '.join(notes)}."
        if not reasons_to_withhold(study, findings.evidence, [WINNER, study.baseline]):
            shown = f"{difference.text()} {unit} ({difference.basis})"
            text += f" On fresh seeds the difference of {name} from {context} is {shown}, which is no verdict."
    elif observed.direction == "unclear":
        margin, shown = f"±{study.equivalence_margin:g} {unit}", f"{difference.text()} {unit}, {difference.basis}"
        text = (
            f"Not confirmed: on fresh seeds {name} is equivalent to {context} within {margin} ({shown})."
            if observed.is_small
            else f"Not confirmed: on fresh seeds {name} does not differ detectably from {context} ({shown}), and"
            f" differences larger than the equivalence margin ({margin}) are not ruled out either. More seeds would"
            " decide it."
        )
    else:
        word = "Confirmed" if observed.direction == "better" else "Not confirmed"
        small = ", within the equivalence margin" * observed.is_small
        text = (
            f"{word}: on {difference.n} fresh seeds {name} is {observed.direction} than {context} by"
            f" {abs(difference.mean):.3f} {unit} ({absolute_bounds(difference)}{small})."
        )
    return f"{text} {_curse(search)}"


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


def _without_winner(findings: Findings) -> str:
    """Return why there is no winner to confirm; empty if there is one."""
    search, study = _search(findings), findings.study
    plural = "s" * (len(search.finished) != 1)
    trials = f"{len(search.finished)} finished trial{plural} of {len(search.trials)}"
    if not search.finished:
        num = len(search.trials)
        which = f"none of the {num} trials finished" if num > 1 else "its only trial did not finish" if num else ""
        return f"No result: {which or 'the search has no trial'}, so there is no winner to confirm."
    if search.winning is None:
        return f"No result: the search names none of its {len(search.trials)} trials as its winner."
    if WINNER not in study.arms and not search.is_baseline:
        return (
            f"Not confirmed yet: the best of {trials}, trial {search.winner}, was not compared with the baseline on"
            " fresh seeds; launch the same command again to run what is missing."
        )
    if WINNER not in study.arms:
        return (
            f"The baseline won: the best of {trials}, trial {search.winner}, is the baseline itself"
            f" (*{study.label(study.baseline)}*), so there is nothing to confirm."
        )
    return ""


def _without_estimate(findings: Findings) -> str:
    """Return that the confirmation has not run; empty if the winner shares two seeds with the baseline."""
    if WINNER in findings.comparisons and findings.comparisons[WINNER].difference.has_interval:
        return ""
    return (
        f"No conclusion: the winner of the search, *{findings.study.label(WINNER)}*, does not share two finished seeds"
        " with the baseline yet. Launch the same command again; it runs what is missing. The search's own best value is"
        " not the result."
    )


def _withheld(findings: Findings) -> list[str]:
    """Return why nothing is concluded about the winner."""
    return findings.withheld or list(filter(None, [findings.comparisons[WINNER].withheld]))


def _search(findings: Findings) -> Search:
    assert findings.search is not None, "only a search has a winner"
    return findings.search
