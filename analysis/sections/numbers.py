"""What a report found, as plain values for programs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aimv2.analysis.inference.contrasts import Bracket
from aimv2.analysis.inference.intervals import Estimate, detectable_difference
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.verdicts import Verdict


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
