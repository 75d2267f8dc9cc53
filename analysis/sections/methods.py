"""A methods paragraph for a paper: what a study did, in the order of such paragraphs."""

from collections.abc import Iterable
from typing import Any

from aimv2.ablations.claims import CLAIMS
from aimv2.analysis.document.model import Bullets, Paragraph, Section
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.contrasts import APART, WIDER
from aimv2.analysis.inference.intervals import LEVEL, POWER, bonferroni, detectable_difference, percent
from aimv2.analysis.inference.looks import ALPHA
from aimv2.analysis.judgement.controls import NULL_LEVEL
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.verdicts import level_of
from aimv2.analysis.sections.claims import margin_reason
from aimv2.analysis.sections.tables import metric_title, seen
from aimv2.base.errors import count
from aimv2.base.markdown import escape

REFERENCES = {
    "Berger 1982": "R. L. Berger. Multiparameter hypothesis testing and acceptance sampling. Technometrics 24, 1982.",
    "Dunnett 1955": "C. W. Dunnett. A multiple comparison procedure for comparing several treatments with a control."
    " Journal of the American Statistical Association 50, 1955.",
    "Lan and DeMets 1983": "K. K. G. Lan and D. L. DeMets. Discrete sequential boundaries for clinical trials."
    " Biometrika 70, 1983.",
    "Satterthwaite 1946": "F. E. Satterthwaite. An approximate distribution of estimates of variance components."
    " Biometrics Bulletin 2, 1946.",
    "Schuirmann 1987": "D. J. Schuirmann. A comparison of the two one-sided tests procedure and the power approach for"
    " assessing the equivalence of average bioavailability. Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.",
    "Welch 1947": "B. L. Welch. The generalization of “Student's” problem when several different population variances"
    " are involved. Biometrika 34, 1947.",
}
EQUAL = {
    "samples": "the same number of training samples",
    "flops": "the same training FLOPs",
}


def section(findings: Findings) -> Section:
    """Return paragraphs to paste, and the references that they cite."""
    blocks = blocks_of("methods", **_design(findings), **_inference(findings))
    text = " ".join(block.text for block in blocks if isinstance(block, Paragraph))
    cited = [reference for name, reference in REFERENCES.items() if name in text]
    return Section("Methods, to paste into a paper", [*blocks, *([Bullets(cited)] if cited else [])])


def _design(findings: Findings) -> dict[str, Any]:
    """Return what the template reads of the study, its runs, and what they ran on."""
    study, evidence, config, cells = findings.study, findings.evidence, findings.config, findings.cells
    failed = {arm: evidence.num_failed(arm) for arm in dict.fromkeys(cell.arm for cell in cells)}
    present = findings.present([cell.arm for cell in cells])
    software = (
        f"They used PyTorch {seen(evidence, 'torch')} in {config.precision} on {seen(evidence, 'hardware')} (CPU"
        f" threads per run: {seen(evidence, 'threads')}); the code is commit {seen(evidence, 'commit')} (digest"
        f" {seen(evidence, 'code')})."
    )
    return {
        "findings": findings,
        "study": study,
        "config": config,
        "evidence": evidence,
        "search": findings.search,
        "others": [arm for arm in present if arm in study.arms and arm != study.baseline],
        "seeds": {cell.seed for cell in cells},
        "sources": list(map(escape, config.source_names)),
        "equal": EQUAL[study.equal],
        "lost": {arm: number for arm, number in failed.items() if number},
        "software": software if len(evidence.runs) and "torch" in evidence.runs else "",
        "count": count,
    }


def _inference(findings: Findings) -> dict[str, Any]:
    """Return what the template of a comparison reads of its estimates, levels, claims and metrics."""
    study, judged = findings.study, findings.sensitivity
    known = {
        arm: comparison.difference
        for arm, comparison in findings.comparisons.items()
        if comparison.difference.has_interval
    }
    withheld = [comparison.withheld for comparison in findings.comparisons.values() if comparison.withheld]
    return {
        "unit": escape(findings.unit),
        "evaluation": _evaluation(findings),
        "level": findings.look.level,
        "known": known,
        "pooled": {arm: estimate for arm, estimate in known.items() if estimate.error_from == "pooled"},
        "own": {arm: estimate for arm, estimate in known.items() if estimate.error_from == "own"},
        "covering": [arm for arm, estimate in known.items() if estimate.covers == "seeds and items"],
        "detectable": list(map(detectable_difference, known.values())),
        "by_all": [name for name in study.claims if CLAIMS[name].contradicted_by == "all"],
        "able": [name for name in study.deciding_metrics if name in judged and not judged[name].is_blind],
        "num_others": len(set(findings.evidence.metrics["metric"]) - {study.primary_metric}),
        "not_judged": list(dict.fromkeys(withheld)),
        "alpha": ALPHA,
        "power": POWER,
        "wider": WIDER,
        "apart": APART,
        "null_level": NULL_LEVEL,
        "control_level": LEVEL,
        "claim_levels": [100 * level_of(name, findings.look.level) for name in study.claims],
        "margin_reason": margin_reason,
        "bonferroni": bonferroni,
        "metric_title": metric_title,
        "percent": percent,
        "span": _span,
    }


def _evaluation(findings: Findings) -> str:
    """Return how the primary metric was measured; a probe's hyperparameters are chosen in each run."""
    metrics = findings.evidence.metrics
    evaluations = list(dict.fromkeys(metrics.loc[metrics["metric"] == findings.metric, "evaluation"]))
    if not evaluations:
        return "not measured"
    first = escape(evaluations[0])
    return first if len(evaluations) == 1 else f"in one of the runs, which differ: {first}"


def _span(values: Iterable[float], form: str) -> str:
    """Return the smallest and the largest value, or the only one."""
    known = list(values)
    low, high = format(min(known), form), format(max(known), form)
    return low if low == high else f"{low} to {high}"
