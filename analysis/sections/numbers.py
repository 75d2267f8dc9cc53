"""What a report found, as plain values for programs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import Estimate, detectable_difference
from aimv2.analysis.inference.ranges import Bracket
from aimv2.analysis.judgement.classes import Parts
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.verdicts import Verdict


def numbers_of(findings: Findings) -> Mapping[str, Any]:
    """Return findings as JSON values: each estimate has mean, interval, level, seeds and unit.

    Means and runs are in the records. The keys of ``comparisons`` and ``verdicts`` are arms, or claims, as on the
    command line. Only studies of several architectures have ``before_training``.
    """
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
        "comparisons": {
            arm: {
                **estimate(one.difference, findings.unit),
                "minimum_detectable_difference": detectable_difference(one.difference),
                "expected": one.expected,
                "observed": one.shows,
                "outcome": one.outcome.word if one.outcome else None,
                "withheld": one.withheld,
                **({"classes": _classes(one.parts, findings.unit)} if one.parts else {}),
                "runs": _runs_of(evidence, arm, study.baseline),
            }
            for arm, one in findings.comparisons.items()
        },
        "controls": [asdict(one) for one in findings.controls],
        **({"before_training": before} if (before := _before(findings)) else {}),
        "verdicts": {claim: verdict_values(verdict) for claim, verdict in findings.verdicts.items()},
        "missing": evidence.missing.to_dict("records"),
    }


def estimate(one: Estimate | Bracket, unit: str) -> dict[str, Any]:
    """Return an estimate, or bounds, as JSON values; without an interval its ends are not a number."""
    values = {"mean": one.mean, "low": one.low, "high": one.high, "level": one.level, "n": one.n, "unit": unit}
    return values | {"covers": one.covers, "error_from": one.error_from, "simultaneous": one.family}


def _classes(parts: Parts, unit: str) -> dict[str, Any]:
    """Return a difference by class of word as JSON values."""
    return {
        "shares": dict(parts.shares),
        "differences": {name: estimate(each, unit) for name, each in parts.differences.items()},
        "most": list(parts.most),
        "without_most": estimate(parts.rest, unit) if parts.rest.n else None,
    }


def verdict_values(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON values, without its comparisons as objects, which ``evidence`` has in words."""
    names = ("word", "qualifications", "evidence", "sensitivity")
    return {name: getattr(verdict, name) for name in names}


def _before(findings: Findings) -> list[dict[str, Any]]:
    """Return the arms whose encoders are not the baseline's before training, and their differences from it then."""
    return [
        {
            "arm": one.arm,
            "metric": one.metric,
            "untrained": one.untrained,
            "difference": estimate(one.difference, findings.evidence.unit(one.metric)) if one.difference.n else None,
        }
        for one in findings.starts
    ]


def _runs_of(evidence: Evidence, *arms: str) -> list[str]:
    """Return the names of the finished runs of these arms, each once."""
    return list(dict.fromkeys(evidence.runs.loc[evidence.runs["arm"].isin(arms), "run"]))
