"""Words that several sections share."""

from collections.abc import Sequence
from dataclasses import replace

from aimv2.analysis.document.model import Table
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.judgement.compare import mixed_code, reasons_to_withhold
from aimv2.analysis.judgement.findings import Findings
from aimv2.base.markdown import escape

METRIC_TITLES = {
    "content_loss": "held-out loss of content words",
    "causal_content_loss": "loss of content words with causal attention",
    "caption_loss": "held-out caption loss",
    "caption_bits": "held-out caption bits",
    "short_loss": "loss of short captions",
    "dense_loss": "loss of dense captions",
}


def metric_title(metric: str) -> str:
    """Return a metric's name in prose."""
    return METRIC_TITLES.get(metric, metric.replace("_", " ").replace("knn", "kNN"))


def in_unit(findings: Findings) -> str:
    """Return the unit of the primary metric as ``" in nats/token"``; empty if it has none or its name says it."""
    unit = findings.unit
    return f" in {escape(unit)}" if unit not in ("", metric_title(findings.metric)) else ""


def seen(evidence: Evidence, column: str) -> str:
    """Return what the finished runs recorded in a column, each value once, as Markdown."""
    values = dict.fromkeys(evidence.runs[column]) if column in evidence.runs else {}
    shown = (f"{value:,}" if isinstance(value, int) else escape(str(value or "not recorded")) for value in values)
    return ", ".join(shown) or "not recorded"


def seeds_per_arm(evidence: Evidence) -> tuple[int, int]:
    """Return the fewest and the most seeds of which an arm has results."""
    numbers = evidence.runs.groupby("arm").size() if len(evidence.runs) else [0]
    return min(numbers), max(numbers)


def span(fewest: int, most: int) -> str:
    """Return ``"4"``, or ``"4 to 32"``."""
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"


def in_seeds(fewest: int, most: int) -> str:
    """Return ``"1 seed"``, ``"4 seeds"`` or ``"4 to 32 seeds"``."""
    return f"{span(fewest, most)} seed{'s' * (most != 1)}"


def withheld(findings: Findings, arm: str) -> str:
    """Return why no difference of an arm from the baseline is shown, in a few words; empty if it is."""
    study, evidence = findings.study, findings.evidence
    if not reasons_to_withhold(study, evidence, [arm, study.baseline]):
        return ""
    return f"withheld: {'different code' if mixed_code(study, evidence) else 'a run failed'}"


def with_limits(table: Table, limits: Sequence[Sequence[str]]) -> Table:
    """Return a table with a last column of what limits each row (``judgement.guards``); as it is if nothing does."""
    if not any(limits):
        return table
    rows = [[*row, escape("; ".join(one))] for row, one in zip(table.rows, limits, strict=True)]
    return replace(table, columns=[*table.columns, "limits"], rows=rows)
