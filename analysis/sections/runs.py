"""What ran: the setup, the sources and what training showed of them, the costs, and the runs behind the numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pandas as pd

from aimv2.ablations.study import Cost, Study
from aimv2.analysis.document.model import Block, Paragraph, Section, Table, code_span
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import NO_ESTIMATE
from aimv2.analysis.judgement.differences import COSTS
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.tables import Column, arm_table, seen
from aimv2.base.errors import REASONS, escape
from aimv2.config.data_config import is_described, source_name
from aimv2.config.program import KIND, Program
from aimv2.config.run_config import RunConfig

COSTS_PER_ARM: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "runs": lambda runs: str(len(runs)),
    "samples per run": lambda runs: f"{runs['samples'].mean():,.0f}",
    "training FLOPs per run": lambda runs: f"{runs['train_flops'].mean():.3g}",
    "minutes per run": lambda runs: f"{runs['seconds'].mean() / 60:.2f}",
    "of which training": lambda runs: f"{runs['train_seconds'].mean() / 60:.2f}",
    "CPU minutes of training steps": lambda runs: (
        "not measured" if runs["train_cpu_seconds"].isna().any() else f"{runs['train_cpu_seconds'].mean() / 60:.2f}"
    ),
    "FLOPs of all runs": lambda runs: f"{runs['train_flops'].sum():.3g}",
    "hours of all runs": lambda runs: f"{runs['seconds'].sum() / 3600:.3f}",
}
OUTCOMES = {"result": "with a result", "failed": "failed", "superseded": "superseded"}
ORIGIN = ("code", "commit", "hardware")  # of the setup; columns of the table of runs where these differ


def runs_section(findings: Findings) -> Section:
    """Return every run, and the cells without a result."""
    finished = [] if findings.evidence.runs.empty else [_finished(findings)]
    return Section("Runs", [*finished, *_missing(findings.evidence.missing)])


def _finished(findings: Findings) -> Table:
    study, evidence, metric = findings.study, findings.evidence, findings.metric
    origin = [name for name in ORIGIN if name in evidence.runs and evidence.runs[name].nunique() > 1]
    value_column = f"{metric} [{escape(findings.unit)}]"
    columns = ["run", "arm", "seed", value_column, "samples", "training FLOPs", "minutes", *origin]
    table = Table(columns, name="runs")
    for run in evidence.runs.to_dict("records"):
        value = float(evidence.value(metric, run["arm"]).get(run["seed"], math.nan))
        table.rows.append(
            [
                code_span(run["run"]),
                study.label(run["arm"]),
                str(run["seed"]),
                "" if math.isnan(value) else f"{value:.4f}",
                f"{run['samples']:,}",
                f"{run['train_flops']:.3g}",
                f"{run['seconds'] / 60:.2f}",
                *(escape(str(run.get(name, ""))) for name in origin),
            ]
        )
    return table


def _missing(missing: pd.DataFrame) -> list[Paragraph | Table]:
    if missing.empty:
        return [Paragraph("No run is missing: every cell has a finished run.")]
    columns = ["arm", "seed", "run", "reason"]
    rows = [[escape(str(cell)) for cell in row] for row in missing[columns].itertuples(index=False)]
    return [Paragraph("Missing runs:"), Table(columns, rows, name="missing")]


def cost_section(findings: Findings) -> Section | None:
    """Return the cost of each arm and of all; None without a finished run."""
    if findings.evidence.runs.empty:
        return None
    note = (
        "FLOPs are computed in closed form for forward and backward passes (2 per multiply-add). Times are measured"
        " while other work may run; the interval of their ratio is over seeds (95 %, Student's t on its logarithm)."
    )
    if findings.compares:
        equal = COSTS[findings.study.equal][0]
        note += f" The study holds {equal} equal across arms; an arm that deviates is marked as unequal."
    title = "Cost" if findings.compares else "Cost of the baseline's runs"
    return Section(title, [_costs(findings), Paragraph(note), *_bill(findings.evidence.bill)])


def _bill(bill: pd.DataFrame) -> list[Paragraph | Table]:
    """Return what all attempts took by their outcome; none if the records have no bill."""
    if bill.empty:
        return []
    table = Table(["attempts", "number", "hours", "GPU-hours", "core-hours"], name="bill")
    for title, rows in [*((title, bill[bill["outcome"] == name]) for name, title in OUTCOMES.items()), ("all", bill)]:
        hours = [f"{rows[column].sum():.3g}" for column in ("gpu_hours", "core_hours")]
        table.rows.append([title, str(int(rows["attempts"].sum())), f"{rows['seconds'].sum() / 3600:.3g}", *hours])
    note = (
        "The bill of all attempts at these runs, from the first to the last sign of each. Superseded attempts were"
        " interrupted or lost, and a later one took over. Runs that share a GPU are each billed all of it."
    )
    return [Paragraph(note), table]


def _costs(findings: Findings) -> Table:
    """Return the costs, marked where the study holds one equal to the baseline and it is not."""
    runs, relative_to = findings.evidence.runs, COSTS if findings.compares else {}
    columns: dict[str, Column] = {title: partial(_cost, runs, title) for title in COSTS_PER_ARM}
    for cost, (title, _) in relative_to.items():
        columns[f"{title} relative to baseline"] = partial(_relative, findings, cost)
    table = arm_table(findings, "cost", findings.present(list(runs["arm"].unique())), columns)
    if findings.compares:
        total = ["all", *(cost(runs) for cost in COSTS_PER_ARM.values())]
        table.rows.append([*total, *[""] * (len(table.columns) - len(total))])
    return table


def _cost(runs: pd.DataFrame, title: str, arm: str) -> str:
    return COSTS_PER_ARM[title](runs[runs["arm"] == arm])


def _relative(findings: Findings, cost: Cost, arm: str) -> str:
    """Return the ratio to the baseline's cost, marked if it should be 1 and is not."""
    study, differences = findings.study, findings.differences
    ratio = differences.relative_cost(arm, cost)
    if math.isnan(ratio):
        return ""
    text = f"{ratio:.2f} x"
    time = differences.relative_time(arm) if cost == "seconds" else NO_ESTIMATE
    if time.has_interval and arm != study.baseline:
        mean, low, high = (math.exp(value) for value in (time.mean, time.low, time.high))
        text = f"{mean:.2f} x [{low:.2f}, {high:.2f}]"
    return text + " (unequal)" * (cost == study.equal and findings.reasons.is_unequal(arm))


def setup_section(findings: Findings) -> Section:
    """Return the setup, what training showed of each source, and the sources' licences."""
    blocks: list[Block] = [_setup(findings)]
    mixture = mixture_table(findings.study, findings.evidence)
    if mixture.rows:
        blocks += [Paragraph("What training showed, and the samples that it could not use and replaced:"), mixture]
    if any(findings.evidence.credits.values()):
        blocks.append(Paragraph(credits_text(findings.evidence.credits)))
    return Section("Setup", blocks)


def _setup(findings: Findings) -> Table:
    study, cells, config, evidence = findings.study, findings.cells, findings.config, findings.evidence
    kind = study.design.kind if findings.compares else "search without a confirmation"
    requested = {cell.arm for cell in cells}
    rows = {
        "arms": "; ".join(f"{name}: {arm.label}" for name, arm in study.arms.items() if name in requested),
        "design": f"{kind}; baseline {study.baseline}; equal {study.equal}",
        "runs": f"{len(evidence.runs)} of {len(cells)} finished",
        **(_model(findings, config) if isinstance(config, RunConfig) else _values(config)),
        "hardware": f"{seen(evidence, 'hardware')}; threads per run: {seen(evidence, 'threads')}"
        + f"; {config.precision}" * bool(config.precision),
        "software": f"torch {seen(evidence, 'torch')}; " * (study.base is None)
        + f"commit {seen(evidence, 'commit')}; code {seen(evidence, 'code')}",
    }
    return Table(["", ""], [list(row) for row in rows.items()], name="setup")


def _values(config: Program) -> dict[str, str]:
    """Return the baseline's values, of a model that describes itself no further."""
    values = (f"{path}={value}" for path, value in config.identity.items() if path not in (KIND, "seed"))
    return {"program": escape(config.kind), "values": escape(", ".join(values))}


def _model(findings: Findings, config: RunConfig) -> dict[str, str]:
    model, budget = config.model, config.budget
    stack = "{0.width} wide, {0.depth} deep, {0.num_heads} heads"
    steps = f"{budget.samples:,} samples per run in batches of {budget.batch_size}"
    patches = f"{model.image_px} px images in I = {model.num_patches} patches"
    return {
        "scale": f"{config.scale}: {steps}, peak learning rate {config.optimizer.peak_lr:g}",
        "encoder": f"{stack.format(model.encoder)}, {_size(findings, 'encoder')}; {patches}",
        "decoder": f"{stack.format(model.decoder)}, {_size(findings, 'other')}, heads included;"
        f" {model.vocab_size} tokens",
        "data": _data(findings, config),
    }


def _data(findings: Findings, config: RunConfig) -> str:
    evidence = findings.evidence
    pairs = f"{seen(evidence, 'train_pairs')} training pairs, {seen(evidence, 'held_out_pairs')} held-out pairs"
    if config.data.has_scenes:
        pairs += f" of other compositions; {config.data.scenes.num_objects} objects of each source"
    share: float | None = config.data.dense_fraction
    if config.data.kind == "files" or config.data.dense_fractions is not None:  # sources differ in their share
        share = evidence.dense_share(findings.study.baseline)
    if share is not None:
        pairs += f"; {100 * share:.0f} % of the samples show the dense caption"
    names = (escape(source_name(source)) if is_described(source) else source for source in config.data.sources)
    return f"{', '.join(names)}: {pairs}"


def _size(findings: Findings, part: str) -> str:
    runs, column = findings.evidence.runs, f"{part}_parameters"
    return f"{runs[column].iloc[0] / 1e6:.2f} M parameters" if column in runs else "parameters unknown"


def mixture_table(study: Study, evidence: Evidence) -> Table:
    """Return samples and epochs of each source, means over runs, dense captions, and the sum of bad samples; equal arms
    share rows."""
    columns = ["arms", "source", "samples per run", "epochs", "dense captions", "bad samples of each arm"]
    table, mixture = Table(columns, name="mixture"), evidence.mixture
    groups: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for arm in study.conditions:
        sources = mixture[mixture["arm"] == arm].groupby("source", sort=False)
        if rows := tuple(_source_row(runs) for _, runs in sources):
            groups.setdefault(rows, []).append(study.label(arm))
    for rows, labels in groups.items():
        arms = "all" if len(groups) == 1 else "; ".join(labels)
        table.rows.extend([[arms if not number else "", *row] for number, row in enumerate(rows)])
    return table


def _source_row(runs: pd.DataFrame) -> tuple[str, ...]:
    samples = runs["samples"].mean()
    bad = [f"{reason}: {count:,}" for reason in REASONS if (count := int(runs[reason].sum()))]
    return (
        escape(str(runs["source"].iloc[0])),
        f"{samples:,.0f}",
        f"{runs['epochs'].mean():.3g}",
        f"{100 * runs['dense'].sum() / runs['samples'].sum():.0f} %" if samples else "",
        "; ".join(bad) or "none",
    )


def credits_text(credits: Mapping[str, Sequence[str]]) -> str:
    """Return the sources and labelled sets of runs (``Evidence.credits``), each with its licence, as Markdown."""
    shown = {kind: ", ".join(map(escape, lines)) for kind, lines in credits.items()}
    text = f"Images: {shown['sources']}."
    return f"{text} Labelled sets: {shown['sets']}." if shown["sets"] else text
