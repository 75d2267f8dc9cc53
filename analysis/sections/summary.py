"""The summary of a study: its answer, what is missing, arms, what was not decided, and how it was run."""

import shlex
from collections.abc import Iterable, Sequence

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import announcements
from aimv2.ablations.expectations import CONTENT, READER
from aimv2.ablations.ladder import AUTO, Ladder
from aimv2.ablations.studies.sensitivity import RUNGS
from aimv2.ablations.study import WINNER
from aimv2.analysis.document.model import Block, Bullets, Paragraph, Section, code_span
from aimv2.analysis.inference.intervals import POWER, detectable_difference
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.sensitivity import NO_SENSITIVITY
from aimv2.analysis.judgement.verdicts import Comparison
from aimv2.analysis.sections import claims, metrics
from aimv2.analysis.sections.scaling import Fitted
from aimv2.analysis.sections.search import cost_of
from aimv2.analysis.sections.tables import as_heading, metric_title, seen
from aimv2.base.errors import count, escape
from aimv2.run.price import duration

MAX_WORDS = 25  # of an answer
KINDS = {"larger": "larger encoders"}  # kinds of effects in words, where the kind itself is no noun
NO_TWO_SEEDS = "no arm shares two seeds with the baseline"
MAX_SHOWN = 6  # items of a list
SEEDS = "sweep.seeds="


def answer(findings: Findings, law: Fitted | str | None = None) -> str:
    """Return what a study found, in a sentence with one number, with the law of ``sections.scaling.law_of``."""
    num_runs, num_missing = len(findings.evidence.runs), len(findings.evidence.missing)
    start = f"Incomplete, {num_missing} of {num_runs + num_missing} runs are missing: "
    return start * bool(num_runs and num_missing) + _answer(findings, law)


def _answer(findings: Findings, law: Fitted | str | None) -> str:
    if findings.search is not None:
        return _of_search(findings)
    if findings.ladder is not None:
        return _of_ladder(findings, findings.ladder)
    if not any(comparison.difference.has_interval for comparison in findings.comparisons.values()):
        return f"Nothing is compared yet, as {findings.lacks_primary or NO_TWO_SEEDS}."
    if findings.withheld:
        return f"Nothing is concluded, because {_why_withheld(findings)}."
    return _of_law(findings, law) if isinstance(law, Fitted) else _of_arms(findings)


def _why_withheld(findings: Findings) -> str:
    """Return the first reason in a few words."""
    first = findings.withheld[0]
    if first != findings.reasons.blind or findings.metric not in findings.sensitivity:
        return first
    return f"`{findings.metric}` was not shown to see the known effects at scale {findings.config.label}"


def _of_arms(findings: Findings) -> str:
    """Return which arm differs most, or how large differences can still be."""
    study, unit = findings.study, escape(findings.unit)
    judged = {
        arm: comparison
        for arm, comparison in findings.comparisons.items()
        if comparison.difference.has_interval and not comparison.withheld
    }
    if not judged:
        return "Nothing is concluded, because runs failed."
    metric, baseline = metric_title(findings.metric), f"*{_short(study.label(study.baseline))}*"
    differ = {
        arm: comparison
        for arm, comparison in judged.items()
        if comparison.observed.direction != "unclear" and not comparison.observed.is_small
    }
    if differ:
        most = max(differ, key=lambda arm: abs(differ[arm].difference.mean))
        amount = f"{abs(differ[most].difference.mean):.2g} {unit}".rstrip()
        start = f"*{as_heading(_short(study.label(most)))}* is {differ[most].observed.direction} than"
        rest = f"; {len(differ)} of {len(judged)} arms differ" if len(judged) > 1 else ""
        ends = (f"{baseline} by {amount}{rest}", f"the baseline by {amount}{rest}", f"the baseline by {amount}")
        return _shortest(f"{start} {end}." for end in ends)
    undecided = [comparison for comparison in judged.values() if not comparison.observed.is_small]
    amount = f"{max(map(_farthest, undecided or judged.values())):.2g} {unit}".rstrip()
    if not undecided:
        return f"No arm matters: in {metric}, all are within {amount} of {baseline}."
    if len(undecided) == len(judged):
        return f"Not decided: no arm clearly differs in {metric}, and differences up to {amount} are possible."
    within = f"In {metric}, {len(judged) - len(undecided)} of {len(judged)} arms are within the margin of"
    return _shortest(f"{within} {than}; the others are within {amount}." for than in (baseline, "the baseline"))


def _farthest(comparison: Comparison) -> float:
    return max(abs(comparison.difference.low), abs(comparison.difference.high))


def _shortest(sentences: Iterable[str]) -> str:
    """Return the first sentence of at most MAX_WORDS words, or the last one."""
    *longer, last = sentences
    return next((text for text in longer if len(text.split()) <= MAX_WORDS), last)


def _short(label: str) -> str:
    """Return a label without what stands in brackets."""
    return label.partition(" (")[0]


def _of_ladder(findings: Findings, ladder: Ladder) -> str:
    """Return on which kinds of effects the reader or the loss of content words decides claims."""
    kinds_by_metric = {
        name: metric.kinds
        for name, metric in findings.sensitivity.items()
        if name in (READER, CONTENT) and not metric.is_blind and name in ladder.metrics
    }
    if not kinds_by_metric:
        return "No metric of claims sees the known effects, so none decides a claim here."
    best = max(kinds_by_metric, key=lambda name: (len(kinds_by_metric[name]), name == READER))
    kinds = [kind for kind in RUNGS if kind in kinds_by_metric[best] or kind not in ladder.unmeasured]
    unseen = [KINDS.get(kind, kind) for kind in kinds if kind not in kinds_by_metric[best]]
    rest = f", but not on {', '.join(unseen)}" if unseen else ""
    return f"`{best}` may decide claims on {len(kinds_by_metric[best])} of {len(kinds)} kinds of effects{rest}."


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
    if findings.confirmation == "confirmed":
        amount = abs(findings.comparisons[WINNER].difference.mean)
        return f"Confirmed on fresh seeds: the winner is better by {amount:.2g} {escape(findings.unit)}.".strip()
    why = f", because {_why_withheld(findings)}" if findings.withheld else ""
    return {
        "not confirmed": "Not confirmed: on fresh seeds the winner of the search is not detectably better.",
        "no conclusion": f"Nothing is concluded{why}.",
        "no winner": "The search has no winner to confirm.",
    }[findings.confirmation]


def sections(findings: Findings) -> list[Section]:
    """Return the sections of the summary."""
    parts = _missing, claims.summary, metrics.arms_section, claims.controls_summary, _undecided, _run
    return [section for part in parts if (section := part(findings)) is not None]


def _missing(findings: Findings) -> Section | None:
    """Return which metrics finished runs lack and what of the sensitivity was not measured, each with the command that
    measures it."""
    blocks: list[Block] = []
    for metric in findings.lacking:
        seeds_of: dict[str, list[int]] = {}
        for arm, seed in sorted(metric.runs):
            seeds_of.setdefault(arm, []).append(seed)
        runs = "; ".join(f"{findings.study.label(arm)} ({_seeds(seeds)})" for arm, seeds in seeds_of.items())
        text = (
            f"{escape(metric.text)}: {runs}. This command measures it of their weights, and writes this report again:"
            f" {code_span(metric.command)}."
        )
        blocks.append(Paragraph(text))
    blocks += _unmeasured(findings)
    return Section("What is missing", blocks) if blocks else None


def _unmeasured(findings: Findings) -> list[Paragraph]:
    if not findings.unmeasured or not findings.compares:
        return []
    scale = findings.config.label
    # Without its controls a study decides nothing, whatever the metric sees.
    words = [word for word in findings.request.arguments if not word.startswith("sweep.controls=")]
    has_scale = any(word.startswith(("scale=", "start.weights=")) for word in words)
    if not has_scale and scale != STUDIES[findings.study.slug].scale:  # of today
        words.append(f"scale={scale}")
    if len({cell.seed for cell in findings.cells}) < 2:  # one has no interval
        words = [*(word for word in words if not word.startswith(SEEDS)), f"{SEEDS}2"]
    command = _command(dict.fromkeys([*words, AUTO]))
    text = (
        f"{as_heading(findings.unmeasured)}, so verdicts that need it are withheld. This command measures it beside the"
        f" study, and writes this report again: {command}."
    )
    return [Paragraph(text)]


def _undecided(findings: Findings) -> Section:
    """Return what the study cannot say."""
    study, evidence = findings.study, findings.evidence
    # "What is missing" says what of the sensitivity was not measured, and how to get it.
    items = [reason for reason in findings.withheld if reason != NO_SENSITIVITY]
    if len(evidence.missing):
        items.append(f"{len(evidence.missing)} runs have no result")
    undecided = {
        study.label(arm): detectable_difference(comparison.difference)
        for arm, comparison in findings.comparisons.items()
        if comparison.difference.has_interval and comparison.shows == "inconclusive" and not comparison.withheld
    }
    if undecided and not findings.withheld:
        small, large = (f"{end:.2g}" for end in (min(undecided.values()), max(undecided.values())))
        sizes = small if small == large else f"{small} to {large}, by arm,"
        items.append(
            f"whether these arms differ: {listed(list(undecided))}. Differences of {sizes} would be detected in"
            f" {100 * POWER:.0f} % of cases"
        )
    deciding = [findings.sensitivity[name] for name in study.deciding_metrics if name in findings.sensitivity]
    items += [metric.text for metric in deciding if metric.is_blind and metric.text not in items]
    doubtful = evidence.metrics[evidence.metrics["metric"].isin(study.deciding_metrics)]
    if number := int((doubtful["warning"] != "").sum()):
        items.append(f"{number} values of metrics that decide have warnings ([all metrics](#all-metrics))")
    items.append("other scales and other data")
    return Section("What was not seen", [Bullets([f"{as_heading(item)}." for item in items])])


def listed(names: Sequence[str]) -> str:
    """Return at most MAX_SHOWN names; labels of arms may have commas themselves."""
    more = [f"{len(names) - MAX_SHOWN} more"] if len(names) > MAX_SHOWN else []
    return "; ".join([*names[:MAX_SHOWN], *more])


def _run(findings: Findings) -> Section:
    """Return source, command, setup and cost."""
    evidence, config = findings.evidence, findings.config
    text = f"Command: {_command(findings.request.arguments)}."
    numbers = {evidence.num_runs(arm) for arm in findings.request.study.conditions} - {0}
    if len(numbers) > 1:  # a launch gives all arms as many
        text += " Arms differ in seeds, so not all runs are of this launch."
    blocks: list[Block] = [Paragraph(f"Source: {findings.study.source}."), Paragraph(text)]
    if runs := len(evidence.runs):
        seeds = sorted(evidence.runs["seed"].unique())
        ran = (
            f"{count(runs, 'run')} at scale {config.label} with {_seeds(seeds)}; the baseline"
            f" sees {config.num_samples:,} samples. Together they took"
            f" {duration(float(evidence.runs['seconds'].sum()))} on {seen(evidence, 'hardware')}."
        )
        if findings.search is not None and findings.search.trials:
            seconds = cost_of(findings.search.trials)["seconds"]
            took = "an unknown time" if seconds is None else duration(seconds)
            ran += f" The search before took {took} for {len(findings.search.trials)} trials."
        ran += (
            f" Code: {seen(evidence, 'code')}. `python analysis/report.py {findings.request.folder} --from-records"
            " export=true` adds tables."
        )
        blocks.append(Paragraph(ran))
    return Section("How it was run", [*blocks, *map(Paragraph, announcements(findings.study))])


def _seeds(seeds: Sequence[int]) -> str:
    """Return ``seed 0``, or ``seeds 0 to 7``, or with commas if some in between are missing."""
    is_whole = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    text = f"{seeds[0]} to {seeds[-1]}" if is_whole else ", ".join(map(str, seeds))
    return f"seed{'s' * (len(seeds) > 1)} {text}"


def _command(words: Iterable[str]) -> str:
    """Return the command of a launch as code."""
    return code_span(shlex.join(["python", "sweeps/launch.py", *words]))
