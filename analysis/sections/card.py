"""Cards of what is published: of weights, with intervals over seeds and the study's verdicts, and of an archive."""

from collections.abc import Mapping
from typing import Any

import yaml

from aimv2.ablations.claims import CLAIMS
from aimv2.analysis.document.model import code_span
from aimv2.analysis.document.template import ENVIRONMENT
from aimv2.analysis.inference.intervals import LEVEL, MIN_SEEDS, Estimate, percent
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.summary import answer
from aimv2.analysis.sections.tables import seen
from aimv2.base.errors import UsageError, count, unknown
from aimv2.base.markdown import escape
from aimv2.config.run_config import RunConfig
from aimv2.run.pricing.price import duration
from aimv2.runs.record import RunFolder
from aimv2.tools.weights.card import licence_metadata, record_of, render


def card(
    findings: Findings,
    arm: str,
    layout: str = "transformers",
    *,
    run: RunFolder | None = None,
    **facts: Any,
) -> str:
    """Return the model card of an arm, for the exported weights of any of its runs, or for those of one.

    Args:
        layout: that of the exported weights.
        run: the run whose weights they are, of which the card has the values, versions and cost too; None is any.
        facts: ``omitted``, ``has_text_tower`` and ``licence`` as in ``aimv2.tools.weights.card.render``.

    Raises:
        UsageError: the study has no such arm, the arm has no finished run, or files of the run cannot be read.
    """
    runs = findings.evidence.runs
    finished = list(dict.fromkeys(runs["arm"]))
    if arm not in finished:
        raise unknown("arm with finished runs", arm, finished)
    own = runs[runs["arm"] == arm]
    config = next(cell.config for cell in findings.cells if cell.arm == arm)
    if not isinstance(config, RunConfig):
        raise UsageError(f"cards are of weights of AIMv2, and {findings.request.folder} has runs of {config.kind}")
    study, pairs = findings.study, list(zip(own["run"], own["seed"], strict=True))
    record = [
        f"Study {escape(findings.request.folder)}: {study.question} Source: {study.source}.",
        f"Runs of this arm: {', '.join(f'{code_span(run)} (seed {seed})' for run, seed in pairs)}.",
        f"Code {seen(findings.evidence, 'code')}; PyTorch {seen(findings.evidence, 'torch')} on"
        f" {seen(findings.evidence, 'hardware')}.",
    ]
    seeds = [cell.config.seed for cell in findings.cells if cell.arm == arm and cell.seed in set(own["seed"])]
    rows, name, note = _rows(findings, arm), f"{findings.request.folder}: {study.label(arm)}", _note(findings, arm)
    if run is not None:
        record += record_of(run, config)
        values = {escape(name): metric for name, metric in run.result()["metrics"].items()}
        rows = [[name, _of_run(values.get(name), text), *others] for name, text, *others in rows]
        seeds = [cell.config.seed for cell in findings.cells if cell.name == run.name]
        name, note = f"{run.name}, {name}", f"The value of this run, and in brackets the arm's. {note}"
    facts = {"has_text_tower": config.objective.name == "clip" and layout == "transformers"} | facts
    return render(
        config,
        layout,
        name=name,
        seeds=seeds,
        sources=findings.evidence.credits["sources"],
        note=note,
        metrics=rows,
        record=record,
        verdicts=verdict_lines(findings),
        **facts,
    )


def _of_run(metric: Mapping[str, Any] | None, of_arm: str) -> str:
    value = None if metric is None else metric["value"]
    return f"not measured ({of_arm})" if value is None else f"{value:.4g} ({of_arm})"


def _note(findings: Findings, arm: str) -> str:
    number = int((findings.evidence.runs["arm"] == arm).sum())
    if number == 1:
        return "One finished run (n = 1), so there are no intervals."
    note = (
        f"Means over {number} seeds with {percent(LEVEL)} % intervals, each for itself, which cover seeds. The weights"
        " of one run may lie outside."
    )
    if number < MIN_SEEDS:
        note = f"Means over {number} seeds, which are too few for intervals of means."
    study, baseline = findings.study, findings.study.baseline
    if arm == baseline:
        return f"{note} This arm is the baseline of the study."
    if reasons := findings.reasons.of_arm(arm):
        return f"{note} Differences from the baseline are withheld: {'; '.join(reasons)}."
    return f"{note} Δ is the difference from the baseline *{study.label(baseline)}*."


def _rows(findings: Findings, arm: str) -> list[list[str]]:
    study, evidence = findings.study, findings.evidence
    shows_difference = arm != study.baseline and not findings.reasons.of_arm(arm)
    rows = []
    for metric in dict.fromkeys(evidence.metrics["metric"]):
        values = evidence.value(metric, arm)
        if not len(values):
            continue
        text = _text(evidence.mean(metric, arm))
        if shows_difference:
            text += f"; Δ {_text(findings.differences.separately(metric, arm), '+.4g')}"
        rows.append([escape(metric), text, escape(evidence.unit(metric)), _measured(findings, metric, arm)])
    return rows


def _text(estimate: Estimate, form: str = ".4g") -> str:
    return f"{estimate.text(form)}, n = {estimate.n}" if estimate.n else estimate.text(form)


def _measured(findings: Findings, metric: str, arm: str) -> str:
    """Return how the arm's first run measured a metric, and every warning."""
    metrics = findings.evidence.metrics
    own = metrics[(metrics["metric"] == metric) & (metrics["arm"] == arm)]
    return "; ".join(escape(text) for text in dict.fromkeys([own["evaluation"].iloc[0], *own["warning"]]) if text)


def verdict_lines(findings: Findings) -> list[str]:
    """Return the study's answer, and its verdict on each claim with what qualifies it."""
    lines = [answer(findings)]
    for name, verdict in findings.verdicts.items():
        word = "; ".join([f"**{verdict.word}**", *verdict.qualifications])
        lines.append(f"{name}: {CLAIMS[name].statement} At scale {findings.config.label}: {word}.")
    return lines


def dataset_card(findings: Findings, licence: str = "") -> str:
    """Return the card as Markdown with the metadata that hubs of data sets read.

    Args:
        licence: of the records, an SPDX identifier; empty is left open.
    """
    study, runs, name = findings.study, findings.evidence.runs, findings.request.folder
    metadata = {
        **licence_metadata(licence, "README.md#data"),
        "pretty_name": f"{name}: records of a study on AIMv2",
        "tags": ["aimv2", "ablation", "records"],
        "configs": [{"config_name": "default", "data_files": "records.parquet"}],
    }
    time, flops = duration(float(runs["seconds"].sum())), float(runs["train_flops"].sum())
    arms = [
        f"{study.label(arm)}: {count(len(own), 'run')}, seeds {', '.join(map(str, sorted(own['seed'])))}"
        for arm in findings.present(list(runs["arm"].unique()))
        if len(own := runs[runs["arm"] == arm])
    ]
    return ENVIRONMENT.get_template("dataset_card.md.j2").render(
        metadata=yaml.safe_dump(metadata, sort_keys=False),
        name=name,
        question=escape(study.question),
        source=study.source,
        verdicts=verdict_lines(findings),
        num_cells=len(findings.cells),
        num_runs=len(runs),
        sources=list(findings.evidence.credits["sources"]),
        sets=list(findings.evidence.credits["sets"]),
        arms=arms,
        cost=f"{flops:.3g} training FLOPs and {time} on {seen(findings.evidence, 'hardware')}.",
        scale=findings.config.label,
    )
