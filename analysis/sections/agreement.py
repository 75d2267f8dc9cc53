"""How far small scales predict larger ones."""

from collections.abc import Iterable, Mapping

import pandas as pd

from aimv2.analysis.document.model import Block, Paragraph, Section, Table, stacked
from aimv2.analysis.inference.agreement import Share, agreements
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.withheld import mixed_code
from aimv2.analysis.sections.tables import metric_title
from aimv2.run.price import price_of


def scales_section(findings: Iterable[Findings]) -> Section | None:
    """Return how often arms of each study have the same order at a scale and at its largest, by training FLOPs; None
    if no scale shares two arms with it."""
    by_study: dict[str, list[Findings]] = {}
    for judged in findings:
        if not mixed_code(judged.study, judged.evidence) and len(judged.evidence.runs):
            by_study.setdefault(judged.study.folder, []).append(judged)
    parts: list[Block] = []
    for name, scales in by_study.items():
        scales.sort(key=lambda scale: price_of(scale.config, lambda run: None).flops)
        study = scales[-1].study
        by_metric = {
            metric: {
                scale.config.label: scale.evidence.values(metric).filter(items=list(study.arms)) for scale in scales
            }
            for metric in study.deciding_metrics
        }
        about = "The order of arms at a scale and at the largest."
        parts += agreement_sections(name, about, by_metric, f"decision_accuracy_{name}")
    return Section("Decision accuracy", parts) if parts else None


def agreement_sections(
    title: str, about: str, by_metric: Mapping[str, Mapping[str, pd.DataFrame]], name: str
) -> list[Section]:
    """Return the decision accuracy of each scale for the largest, by metric (``agreements``), as a section if one
    shares two arms with it."""
    rows: list[list[str]] = [
        [metric_title(metric), pair.small, pair.large, *map(_counted, (pair.accuracy, pair.distinguishable, pair.rank))]
        for metric, scales in by_metric.items()
        for pair in agreements(scales)
        if pair.accuracy.n
    ]
    table = Table(
        ["metric", "from", "to", "decision accuracy", "of distinguishable pairs", "Spearman"],
        rows,
        name,
        "Decision accuracy is the share of pairs with the same order (Magnusson et al. 2025); chance is 0.5, ties count"
        " half. A pair is distinguishable if the 95 % interval of its paired difference at the larger scale excludes"
        " zero. Intervals resample seeds and lie lower than the value where pairs are close.",
    )
    return [Section(title, [Paragraph(about), table])] if rows else []


def _counted(share: Share) -> str:
    """Return a share or correlation with its number."""
    return stacked(share.text(), f"n = {share.n}")
