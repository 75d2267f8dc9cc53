"""The one table of arms, and the words that several sections share."""

from collections.abc import Callable, Iterable, Mapping

from aimv2.analysis.document.model import Table
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.judgement.findings import Findings
from aimv2.base.errors import escape

METRIC_TITLES = {
    "content_loss": "held-out loss of content words",
    "causal_content_loss": "loss of content words with causal attention",
    "caption_loss": "held-out caption loss",
    "caption_bits": "held-out caption bits",
    "short_loss": "loss of short captions",
    "dense_loss": "loss of dense captions",
}

Column = Callable[[str], str]  # from an arm to its cell


def arm_table(
    findings: Findings, name: str, arms: Iterable[str], columns: Mapping[str, Column], metric: str = ""
) -> Table:
    """Return a table with a row for each arm; the last column is what limits its numbers, if anything does. They are of
    a metric, or costs."""
    arms = list(arms)
    table = Table(["arm", *columns], name=name)
    for arm in arms:
        table.rows.append([findings.study.label(arm), *(column(arm) for column in columns.values())])
    limits = [escape("; ".join(findings.reasons.limits_of_arm(arm, metric))) for arm in arms]
    if any(limits):
        table.columns.append("limits")
        for row, text in zip(table.rows, limits, strict=True):
            row.append(text)
    return table


def withheld(findings: Findings, arm: str) -> str:
    """Return why no difference of an arm from the baseline is shown, in a few words; empty if it is."""
    if not findings.reasons.of_arm(arm):
        return ""
    return f"withheld: {'different code' if findings.reasons.of_code else 'a run failed'}"


def metric_title(metric: str) -> str:
    """Return a metric's name in prose."""
    return METRIC_TITLES.get(metric, metric.replace("_", " ").replace("knn", "kNN"))


def as_heading(text: str) -> str:
    """Return a text with a capital letter at its start; the rest stays."""
    return text[:1].upper() + text[1:]


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
