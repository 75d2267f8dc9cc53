"""The summary of a study: verdicts, arms, controls, what was not seen, and how it was run."""

import shlex
from collections.abc import Iterable, Iterator, Sequence

from aimv2.ablations.adapt import announcements
from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.studies.sensitivity import RUNGS
from aimv2.analysis.document.model import Block, Bullets, Chip, Paragraph, Section, Table, code_span, stacked
from aimv2.analysis.inference.intervals import POWER, detectable_difference, percent
from aimv2.analysis.inference.relations import Word
from aimv2.analysis.judgement.claims import Answer, overall, whole_claims
from aimv2.analysis.judgement.controls import ControlOutcome
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.guards import arm_notes
from aimv2.analysis.judgement.sensitivity import NO_SENSITIVITY
from aimv2.analysis.judgement.unmeasured import AUTO
from aimv2.analysis.judgement.verdicts import Verdict, compared_in_words
from aimv2.analysis.sections.search import cost_of
from aimv2.analysis.sections.words import in_unit, metric_title, seen, with_limits
from aimv2.base.markdown import escape
from aimv2.run.pricing.price import duration

MAX_SHOWN = 6  # items of a list

SEEDS = "sweep.seeds="


def chips(findings: Findings) -> list[Chip]:
    """Return the verdict on each claim, with its parts if the study judges them."""
    return [Chip(name, _with_parts(findings, name)) for name in findings.verdicts]


def _with_parts(findings: Findings, name: str) -> str:
    """Return the study's word for a claim with its parts."""
    claims = [one for one in (CLAIMS[name], *whole_claims().get(name, [])) if one.id in findings.verdicts]
    return overall([Answer(one, findings.study.slug, findings.request.folder, findings) for one in claims])


def sections(findings: Findings) -> list[Section]:
    """Return the sections of the summary."""
    parts = _missing, _claims, _kinds, _arms, _controls, _unseen, _run
    return [found for part in parts if (found := part(findings)) is not None]


def _missing(findings: Findings) -> Section | None:
    """Return which metrics finished runs lack and what of the sensitivity was not measured, each with the command that
    measures it."""
    blocks: list[Block] = [*_lacking(findings), *_unmeasured(findings)]
    return Section("What is missing", blocks) if blocks else None


def _lacking(findings: Findings) -> Iterator[Paragraph]:
    for one in findings.lacking:
        each = (
            f"{findings.study.label(arm)} ({'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))})"
            for arm, seeds in one.seeds_by_arm.items()
        )
        yield Paragraph(
            f"{escape(one.text)}: {'; '.join(each)}. This command measures it of their weights, and writes this report"
            f" again: {code_span(one.command)}."
        )


def _unmeasured(findings: Findings) -> Iterator[Paragraph]:
    what = findings.unmeasured
    if not what or not findings.compares:
        return
    words, scale = list(findings.request.arguments), findings.config.label
    is_said = any(word.startswith(("scale=", "start.weights=")) for word in words)
    if not is_said and scale != STUDIES[findings.study.slug].scale:  # of today
        words.append(f"scale={scale}")
    if len({cell.seed for cell in findings.cells}) < 2:  # one has no interval
        words = [*(word for word in words if not word.startswith(SEEDS)), f"{SEEDS}2"]
    command = _command(dict.fromkeys([*words, AUTO]))
    text = (
        f"{what[0].upper()}{what[1:]}, so verdicts that need it are withheld. This command measures it beside the"
        f" study, and writes this report again: {command}."
    )
    yield Paragraph(text)


def _claims(findings: Findings) -> Section | None:
    if not findings.verdicts:
        return None
    table = Table(["claim", "verdict at this scale", "what decides"], name="verdicts")
    for name, verdict in findings.verdicts.items():
        word = _with_parts(findings, name)
        words = [f"**{verdict.word}**", *([f"with its parts: **{word}**"] if word != verdict.word else [])]
        statement = stacked(f"**{name}**", CLAIMS[name].statement)
        table.rows.append([statement, stacked(*words), _why(findings, verdict)])
    return Section("Claims of the paper", [table])


def _why(findings: Findings, verdict: Verdict) -> str:
    """Return the first comparison behind a verdict, which is one that blocks it if it is undecided."""
    if verdict.word is Word.NOT_TESTABLE or not verdict.deciding:
        return verdict.qualifications[0] if verdict.qualifications else ""
    first = verdict.deciding[0]
    more = f"; and {len(verdict.deciding) - 1} more" if len(verdict.deciding) > 1 else ""
    return f"{compared_in_words(findings.study, first.expected)}: {first.difference.text()}{more}"


def _kinds(findings: Findings) -> Section | None:
    """Return the kinds of claims that each metric of claims may decide, by a sensitivity study."""
    if findings.ladder is None:
        return None
    used = {metric for study in STUDIES.values() for metric in study.deciding_metrics}
    unmeasured = findings.ladder.unmeasured
    table = Table(["metric", "may decide claims on", "does not see"], name="kinds")
    for metric in findings.ladder.metrics:
        if metric in used and metric in findings.sensitivity:
            own = findings.sensitivity[metric]
            seen_kinds = [] if own.is_blind else [kind for kind in RUNGS if kind not in own.unseen]
            unseen = [kind for kind in RUNGS if kind not in seen_kinds and kind not in unmeasured]
            table.rows.append([metric, ", ".join(seen_kinds) or "nothing", ", ".join(unseen)])
    about = (
        "By kind of effect, what the metrics that claims compare see, by 95 % intervals of single rungs"
        " ([all metrics, and the rungs of each kind](#sensitivity))."
    )
    if unmeasured:
        about += f" Not all rungs were run on: {', '.join(unmeasured)}."
    return Section("What claims can rest on", [Paragraph(about), table])


def _arms(findings: Findings) -> Section | None:
    """Return the difference of each arm from the baseline in the primary metric."""
    study = findings.study
    if not findings.comparisons:
        return None
    better = "lower" if study.lower_is_better else "higher"
    is_one = len(findings.comparisons) == 1
    hold = "The interval holds" if is_one else "Each interval has its own, higher level, and all hold together"
    table, limits = Table(["arm", "difference [interval]", "observed"], name="arms"), []
    for arm, one in findings.comparisons.items():
        text = one.withheld or one.difference.text("+.3f")
        observed = "" if one.withheld else "no verdict" if findings.withheld else one.shows
        table.rows.append([study.label(arm), text, observed])
        limits.append(arm_notes(findings, arm, findings.metric))
    about = (
        f"Differences from the baseline, *{study.label(study.baseline)}*, in {metric_title(findings.metric)}"
        f" (`{findings.metric}`){in_unit(findings)}; {better} is better. {hold} at"
        f" {percent(findings.look.level)} %. Differences below"
        f" {study.primary_margin:.2g} are too small to matter"
        " ([how to read the table](#how-to-read-the-table))."
    )
    return Section("Arms", [Paragraph(about), with_limits(table, limits)])


def _controls(findings: Findings) -> Section | None:
    by_result: dict[tuple[str, str], list[ControlOutcome]] = {}
    for one in findings.controls:
        by_result.setdefault((one.control, one.result), []).append(one)
    if not by_result:
        return None
    items = [
        f"{findings.study.label(control)}: **{result}** in {_listed([one.metric for one in found], ', ')}."
        for (control, result), found in by_result.items()
    ]
    return Section("Controls", [Bullets(items)])


def _unseen(findings: Findings) -> Section:
    """Return what the study cannot say."""
    study, evidence = findings.study, findings.evidence
    items = [one for one in findings.withheld if one != NO_SENSITIVITY]  # "What is missing" says what and how to get it
    if len(evidence.missing):
        items.append(f"{len(evidence.missing)} runs have no result")
    open_arms = {
        study.label(arm): detectable_difference(one.difference)
        for arm, one in findings.comparisons.items()
        if one.difference.has_interval and one.shows == "inconclusive" and not one.withheld
    }
    if open_arms and not findings.withheld:
        small, large = (f"{end:.2g}" for end in (min(open_arms.values()), max(open_arms.values())))
        sizes = small if small == large else f"{small} to {large}, by arm,"
        items.append(
            f"whether these arms differ: {_listed(list(open_arms))}. Differences of {sizes} would be detected in"
            f" {100 * POWER:.0f} % of cases"
        )
    blind = [findings.sensitivity[name] for name in study.deciding_metrics if name in findings.sensitivity]
    items += [one.text for one in blind if one.is_blind and one.text not in items]
    doubtful = evidence.metrics[evidence.metrics["metric"].isin(study.deciding_metrics)]
    if number := int((doubtful["warning"] != "").sum()):
        items.append(f"{number} values of metrics that decide have warnings ([all metrics](#all-metrics))")
    items.append("other scales and other data")
    return Section("What was not seen", [Bullets([f"{one[0].upper()}{one[1:]}." for one in items])])


def _listed(names: Sequence[str], between: str = "; ") -> str:
    """Return at most MAX_SHOWN names; labels of arms may have commas themselves."""
    more = [f"{len(names) - MAX_SHOWN} more"] if len(names) > MAX_SHOWN else []
    return between.join([*names[:MAX_SHOWN], *more])


def _run(findings: Findings) -> Section:
    """Return source, command, setup and cost."""
    runs, config = findings.evidence.runs, findings.config
    blocks: list[Block] = [
        Paragraph(f"Source: {findings.study.source}."),
        Paragraph(f"Command: {_command(findings.request.arguments)}.{_earlier(findings)}"),
    ]
    if len(runs):
        seeds = _seeds(sorted(runs["seed"].unique()))
        name = findings.request.folder
        ran = (
            f"{len(runs)} runs at scale {config.label} with seeds {seeds}; the baseline sees {config.num_samples:,}"
            f" samples. Together they took {duration(float(runs['seconds'].sum()))} on"
            f" {seen(findings.evidence, 'hardware')}.{_trials(findings)} Code: {seen(findings.evidence, 'code')}."
            f" `python analysis/report.py {name} --from-records export=true` adds tables."
        )
        blocks.append(Paragraph(ran))
    return Section("How it was run", [*blocks, *map(Paragraph, announcements(findings.study))])


def _earlier(findings: Findings) -> str:
    """Return that there was another launch, as some arms have more seeds than others: a launch gives all as many."""
    numbers = {findings.evidence.num_runs(arm) for arm in findings.request.study.conditions} - {0}
    return " Arms differ in seeds, so not all runs are of this launch." if len(numbers) > 1 else ""


def _trials(findings: Findings) -> str:
    """Return what the trials of a search took before its winner was run again."""
    if findings.search is None or not findings.search.trials:
        return ""
    trials = findings.search.trials
    seconds = cost_of(trials)["seconds"]
    took = "an unknown time" if seconds is None else duration(seconds)
    return f" The search before took {took} for {len(trials)} trials."


def _seeds(seeds: Sequence[int]) -> str:
    """Return seeds as ``0 to 7``, or with commas if some in between are missing."""
    is_whole = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]} to {seeds[-1]}" if is_whole else ", ".join(map(str, seeds))


def _command(words: Iterable[str]) -> str:
    """Return the command of a launch as code."""
    return code_span(shlex.join(["python", "sweeps/launch.py", *words]))
