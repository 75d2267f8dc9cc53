"""How far small scales predict larger ones, and the loss the accuracies."""

from collections.abc import Iterable, Mapping

import pandas as pd

from aimv2.ablations.study import Study
from aimv2.analysis.document.model import Block, Paragraph, Section, Table, stacked
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.agreement import Share, agreements, association
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.withheld import mixed_code
from aimv2.analysis.sections.tables import metric_title
from aimv2.definitions.metrics import lower_is_better
from aimv2.run.price import price_of

ACCURACIES = ("probe_", "knn_")
MIN_ARMS = 3


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


def association_section(study: Study, evidence: Evidence) -> Section | None:
    """Return how the primary loss goes with each accuracy, across arms and within them; None without a loss, accuracies
    or three arms, or with mixed code."""
    loss = study.primary_metric
    values = evidence.metrics[evidence.metrics["arm"].isin(list(study.arms))]
    names = [name for name in dict.fromkeys(values["metric"]) if name.startswith(ACCURACIES)]
    if not lower_is_better(loss) or mixed_code(study, evidence) or values["arm"].nunique() < MIN_ARMS or not names:
        return None
    wide = values.pivot(index=["arm", "seed"], columns="metric", values="value").reset_index()
    if loss not in wide:
        return None
    rows: list[list[str]] = [
        [metric_title(name), *map(_counted, association(wide, loss, name).values())] for name in names
    ]
    table = Table(
        ["accuracy", "across arms: Pearson", "Spearman", "within arms: Pearson", "within: Spearman"],
        rows,
        "loss_and_accuracy",
        f"Correlation of {metric_title(loss)} with accuracies; -1 if a lower loss always comes with a higher accuracy."
        " Across arms, of means over seeds; within arms, of deviations from them. Intervals resample seeds,"
        " so they are about these arms and not about others.",
    )
    return Section("Loss and accuracy", [table])


def _counted(share: Share) -> str:
    """Return a share or correlation with its number."""
    return stacked(share.text(), f"n = {share.n}")
