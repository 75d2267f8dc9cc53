"""All metrics of a study as forest plots: each arm and control minus the baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.study import Study
from aimv2.spec.metrics import lower_is_better
from analysis.document.style import INK, SOFT, looks
from analysis.evidence.load import Evidence
from analysis.figures.arms import LEVELS, OFF_SCALE, draw_estimate, estimate_row, mark_zero, panels
from analysis.inference.intervals import LEVEL, Estimate
from analysis.judgement.compare import Differences, reasons_to_withhold
from analysis.judgement.sensitivity import MetricSensitivity


def forest(
    study: Study, evidence: Evidence, sensitivity: Mapping[str, MetricSensitivity]
) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel per metric: arms and controls minus the baseline, with separate intervals.

    The grey band is the equivalence margin of the metric. Metrics that are not sensitive at this scale, or whose
    sensitivity was not measured, have grey titles. Controls off the scale of the arms are cut off, with an arrow. Arms
    whose differences are withheld are left out.

    Args:
        sensitivity: by metric.
    """
    found = {metric: _differences(study, evidence, metric) for metric in dict.fromkeys(evidence.metrics["metric"])}
    found = {metric: differences for metric, differences in found.items() if differences}
    present = {arm for differences in found.values() for arm in differences}
    arms, rows = [arm for arm in study.conditions if arm in present], []
    figure, axes = panels(len(found), [study.label(arm) for arm in arms])
    for axis, (metric, differences) in zip(axes, found.items(), strict=True):
        is_sensitive = metric in sensitivity and sensitivity[metric].tells_small_steps
        arrow = "← better" if lower_is_better(metric) else "better →"
        name = metric.replace("_", " ").replace("knn", "kNN")
        axis.set_title(f"{name}\n{arrow}", color=INK if is_sensitive else SOFT)
        for arm, difference in differences.items():
            label = study.label(arm)
            draw_estimate(
                axis, difference, arms.index(arm), looks(study)[arm], f"{label}: {difference.text()}", size=4.5
            )
            rows.append(
                {"metric": metric, "unit": evidence.unit(metric), "arm": arm, "label": label}
                | estimate_row(difference)
                | {"margin": study.margin(metric), "is_sensitive": is_sensitive}
            )
        mark_zero(axis, study.margin(metric))
        _scale(axis, study, arms, differences)
    return figure, pd.DataFrame(rows)


def _differences(study: Study, evidence: Evidence, metric: str) -> dict[str, Estimate]:
    """Return the differences from the baseline that are not withheld."""
    differences = Differences(study, evidence)
    others = [arm for arm in study.conditions if arm != study.baseline]
    found = {
        arm: differences.separately(metric, arm, LEVELS.get(arm, LEVEL))
        for arm in others
        if arm in evidence.values(metric) and not reasons_to_withhold(study, evidence, [arm, study.baseline])
    }
    return {arm: estimate for arm, estimate in found.items() if estimate.n}


def _scale(axis: Axes, study: Study, arms: Sequence[str], differences: Mapping[str, Estimate]) -> None:
    """Scale an axis to the arms, and point to controls that are off it."""
    ends = {arm: np.array([one.low, one.mean, one.high]) for arm, one in differences.items()}
    of_arms = np.concatenate([end for arm, end in ends.items() if arm in study.arms] or list(ends.values()))
    largest = float(np.nanmax(np.abs(of_arms)))
    near = [end for arm, end in ends.items() if arm in study.arms or abs(end[1]) <= OFF_SCALE * largest]
    shown = np.concatenate([[0.0], *near])
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    room = 0.08 * (high - low) or 1.0
    axis.set_xlim(low - room, high + room)
    axis.locator_params(axis="x", nbins=3)
    for arm, one in differences.items():
        if not low - room <= one.mean <= high + room:
            place, text, align = (1.0, "→", "right") if one.mean > high else (0.0, "←", "left")
            options: dict[str, Any] = {"ha": align, "va": "center_baseline", "color": SOFT}
            axis.text(place, arms.index(arm), text, transform=axis.get_yaxis_transform(), **options)
