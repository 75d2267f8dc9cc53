"""Words that several sections share."""

from analysis.judgement.compare import mixed_code, reasons_to_withhold
from analysis.judgement.findings import Findings
from analysis.load import Evidence

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


def percent(level: float) -> str:
    """Return a level in per cent, such as 97.5."""
    return f"{100 * level:.4f}".rstrip("0").rstrip(".")


def runs_of(evidence: Evidence, *arms: str) -> tuple[str, ...]:
    """Return the names of the finished runs of these arms, each once."""
    return tuple(dict.fromkeys(evidence.runs.loc[evidence.runs["arm"].isin(arms), "run"]))


def withheld(findings: Findings, arm: str) -> str:
    """Return why no difference of an arm from the baseline is shown, in a few words; empty if it is."""
    study, evidence = findings.study, findings.evidence
    if not reasons_to_withhold(study, evidence, [arm, study.baseline]):
        return ""
    return f"withheld: {'different code' if mixed_code(study, evidence) else 'a run failed'}"
