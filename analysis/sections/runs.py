"""The runs behind the numbers."""

import math

from analysis.document.model import Cell, Paragraph, Section, Table, code_span, escape
from analysis.judgement.findings import Findings

COLUMNS = {"code": "code", "commit": "commit", "hardware": "hardware"}


def section(findings: Findings) -> Section:
    """Return every run, and the cells without a result."""
    finished = [] if findings.evidence.runs.empty else [_finished(findings)]
    return Section("Runs", [*finished, *_missing(findings)], is_folded=True)


def _finished(findings: Findings) -> Table:
    study, evidence, metric = findings.study, findings.evidence, findings.metric
    columns = [
        "run",
        "arm",
        "seed",
        f"{metric} [{escape(findings.unit)}]",
        "samples",
        "training FLOPs",
        "minutes",
        *COLUMNS,
    ]
    table = Table(columns, name="runs", is_filterable=True)
    for run in evidence.runs.to_dict("records"):
        value = float(evidence.value(metric, run["arm"]).get(run["seed"], math.nan))
        table.rows.append(
            [
                Cell((code_span(run["run"]),), (run["run"],)),
                study.label(run["arm"]),
                str(run["seed"]),
                "" if math.isnan(value) else Cell((f"{value:.4f}",), value=value),
                f"{run['samples']:,}",
                f"{run['train_flops']:.3g}",
                f"{run['seconds'] / 60:.2f}",
                *(escape(str(run.get(name, ""))) for name in COLUMNS),
            ]
        )
    return table


def _missing(findings: Findings) -> list[Paragraph | Table]:
    missing = findings.evidence.missing
    if missing.empty:
        return [Paragraph("No run is missing: every cell has a finished run.")]
    columns = ["arm", "seed", "run", "reason"]
    rows = missing[columns].astype(str).to_numpy().tolist()
    table = Table(columns, [[escape(cell) for cell in row] for row in rows], name="missing")
    return [Paragraph("Missing runs:"), table]
