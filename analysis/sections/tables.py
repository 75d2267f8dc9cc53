"""The one table of arms, words that several sections share, and findings as plain values for programs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from aimv2.analysis.document.model import Table
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.contrasts import Bracket
from aimv2.analysis.inference.intervals import Estimate, detectable_difference
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.verdicts import Verdict
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


def numbers_of(findings: Findings) -> Mapping[str, Any]:
    """Return findings as JSON values, by arm or claim as on the command line: each estimate has mean, interval, level,
    seeds and unit."""
    study, evidence, request = findings.study, findings.evidence, findings.request
    return {
        "study": {
            "slug": study.slug,
            "arguments": list(request.arguments),
            "scale": findings.config.label,
            "baseline": study.baseline,
            "arms": {arm: study.label(arm) for arm in study.arms},
            "seeds": sorted({cell.seed for cell in request.cells}),
            "equal": study.equal,
            "primary_metric": findings.metric,
            "unit": findings.unit,
            "equivalence_margin": study.primary_margin,
        },
        "look": {"number": findings.look.number, "level": findings.look.level} if findings.compares else None,
        "codes": dict(evidence.codes),
        "withheld": findings.withheld,
        "means": {
            metric: {
                arm: estimate(evidence.mean(metric, arm), evidence.unit(metric))
                for arm in findings.present([str(arm) for arm in evidence.values(metric).columns])
            }
            for metric in dict.fromkeys(evidence.metrics["metric"])
        },
        "comparisons": {
            arm: {
                **estimate(comparison.difference, findings.unit),
                "minimum_detectable_difference": detectable_difference(comparison.difference),
                "expected": comparison.expected,
                "observed": comparison.shows,
                "outcome": comparison.outcome.word if comparison.outcome else None,
                "withheld": comparison.withheld,
            }
            for arm, comparison in findings.comparisons.items()
        },
        "controls": [asdict(control) for control in findings.controls],
        "verdicts": {claim: verdict_values(verdict) for claim, verdict in findings.verdicts.items()},
        "limits": {arm: findings.reasons.limits(arm, findings.metric) for arm in study.conditions},
        "missing": evidence.missing.to_dict("records"),
    }


def estimate(estimated: Estimate | Bracket, unit: str) -> dict[str, Any]:
    """Return an estimate, or bounds, as JSON values; without an interval its ends are not a number."""
    names = ("mean", "low", "high", "level", "n")
    values = {name: getattr(estimated, name) for name in names} | {"unit": unit, "covers": estimated.covers}
    return values | {"error_from": estimated.error_from, "simultaneous": estimated.family}


def verdict_values(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON values, without its comparisons as objects, which ``evidence`` has in words."""
    names = ("word", "qualifications", "evidence", "sensitivity")
    return {name: getattr(verdict, name) for name in names}
