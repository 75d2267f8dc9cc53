"""The answer of a study in at most MAX_WORDS plain words, with one number."""

from aimv2.ablations.expectations import CONTENT, READER
from aimv2.ablations.ladder import Ladder
from aimv2.ablations.studies.sensitivity import RUNGS
from aimv2.ablations.study import WINNER
from aimv2.analysis.judgement import confirmation
from aimv2.analysis.judgement.classes import words
from aimv2.analysis.judgement.conclusions import NO_TWO_SEEDS
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.scaling import Fitted
from aimv2.analysis.sections.words import metric_title
from aimv2.base.markdown import escape

MAX_WORDS = 25
KINDS = {"larger": "larger encoders"}  # kinds of effects in words, where the kind itself is no noun


def answer(findings: Findings, law: Fitted | str | None = None) -> str:
    """Return what a study found, in a sentence.

    Args:
        law: that of ``sections.scaling.law_of``.
    """
    return _incomplete(findings) + _answer(findings, law)


def _incomplete(findings: Findings) -> str:
    """Return how many runs the answer lacks; empty if it lacks none, or has none."""
    has, lacks = len(findings.evidence.runs), len(findings.evidence.missing)
    return f"Incomplete, {lacks} of {has + lacks} runs are missing: " if has and lacks else ""


def _answer(findings: Findings, law: Fitted | str | None) -> str:
    if findings.search is not None:
        return _of_search(findings)
    if findings.ladder is not None:
        return _of_ladder(findings, findings.ladder)
    if not any(one.difference.has_interval for one in findings.comparisons.values()):
        return f"Nothing is compared yet, as {findings.lacks_primary or NO_TWO_SEEDS}."
    if findings.withheld:
        return f"Nothing is concluded, because {_why_withheld(findings)}."
    return _of_law(findings, law) if isinstance(law, Fitted) else _of_arms(findings)


def _why_withheld(findings: Findings) -> str:
    """Return the first reason in a few words."""
    first = findings.withheld[0]
    if first != findings.blind or findings.metric not in findings.sensitivity:
        return first
    return f"`{findings.metric}` was not shown to see the known effects at scale {findings.config.label}"


def _of_arms(findings: Findings) -> str:
    study = findings.study
    judged = {arm: one for arm, one in findings.comparisons.items() if one.difference.has_interval and not one.withheld}
    if not judged:
        return "Nothing is concluded, because runs failed."
    unit, metric = escape(findings.unit), metric_title(findings.metric)
    baseline = f"*{_short(study.label(study.baseline))}*"
    differ = {
        arm: one for arm, one in judged.items() if one.observed.direction != "unclear" and not one.observed.is_small
    }
    if differ:
        most = max(differ, key=lambda arm: abs(differ[arm].difference.mean))
        one = differ[most]
        amount = f"{abs(one.difference.mean):.2g} {unit}".rstrip()
        label = _short(study.label(most))
        where = f", mostly in {words(one.parts.most)}" if one.parts and one.parts.most else ""
        rest = f"; {len(differ)} of {len(judged)} arms differ" if len(judged) > 1 else ""
        told = f"*{label[:1].upper()}{label[1:]}* is {one.observed.direction} than"
        sentences = [
            f"{told} {than} by {amount}{more}."
            for more in (where + rest, where, "")
            for than in (baseline, "the baseline")
        ]
        return next((text for text in sentences if len(text.split()) <= MAX_WORDS), sentences[-1])
    still_open = [one for one in judged.values() if not one.observed.is_small]
    bounds = [max(abs(one.difference.low), abs(one.difference.high)) for one in still_open or judged.values()]
    amount = f"{max(bounds):.2g} {unit}".rstrip()
    if not still_open:
        return f"No arm matters: in {metric}, all are within {amount} of {baseline}."
    if len(still_open) == len(judged):
        return f"Not decided: no arm clearly differs in {metric}, and differences up to {amount} are possible."
    within = f"In {metric}, {len(judged) - len(still_open)} of {len(judged)} arms are within the margin of"
    sentences = [f"{within} {than}; the others are within {amount}." for than in (baseline, "the baseline")]
    return next((text for text in sentences if len(text.split()) <= MAX_WORDS), sentences[-1])


def _short(label: str) -> str:
    """Return a label without what stands in brackets."""
    return label.partition(" (")[0]


def _of_ladder(findings: Findings, ladder: Ladder) -> str:
    """Return on which kinds of effects the reader or the loss of content words decides claims."""
    seen = {
        name: [kind for kind in RUNGS if kind not in one.unseen]
        for name, one in findings.sensitivity.items()
        if name in (READER, CONTENT) and not one.is_blind and name in ladder.metrics
    }
    if not seen:
        return "No metric of claims sees the known effects, so none decides a claim here."
    best = max(seen, key=lambda name: (len(seen[name]), name == READER))
    kinds = [kind for kind in RUNGS if kind in seen[best] or kind not in ladder.unmeasured]
    unseen = [KINDS.get(kind, kind) for kind in kinds if kind not in seen[best]]
    rest = f", but not on {', '.join(unseen)}" if unseen else ""
    return f"`{best}` may decide claims on {len(seen[best])} of {len(kinds)} kinds of effects{rest}."


def _of_law(findings: Findings, law: Fitted) -> str:
    """Return what the law says of four times the baseline's samples, and how far it is off."""
    if {"B", "b"} & set(law.law.unidentified):
        return "These runs do not determine a power law in size and samples."
    runs, parameters = findings.evidence.runs, law.law.law.parameters
    samples = float(runs.loc[runs["arm"] == findings.study.baseline, "samples"].iloc[0])
    gain = parameters["B"] * samples ** -parameters["b"] * (1 - 4 ** -parameters["b"])
    first = f"From {samples:,.0f} samples, four times as many lower the loss by {gain:.2g} {escape(findings.unit)}"
    if law.law.misfit.is_shown:
        return f"{first}; the power law does not fit: it misses settings by {100 * law.law.misfit.misfit_sd:.2g} %."
    return f"{first}; a power law fits."


def _of_search(findings: Findings) -> str:
    result = confirmation.result(findings)
    why = f", because {_why_withheld(findings)}" if findings.withheld else ""
    if result == "confirmed":
        one = findings.comparisons[WINNER].difference
        return f"Confirmed on fresh seeds: the winner is better by {abs(one.mean):.2g} {escape(findings.unit)}.".strip()
    return {
        "not confirmed": "Not confirmed: on fresh seeds the winner of the search is not detectably better.",
        "no conclusion": f"Nothing is concluded{why}.",
        "no winner": "The search has no winner to confirm.",
    }[result]
