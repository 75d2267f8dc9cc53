"""Encoders of other widths, each with a learning rate of its own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aimv2.ablations.design import Arm, widened
from aimv2.config.paths import replaced

# Peak learning rates relative to the base's, by the ratio of widths, tuned at laptop only (docs/laptop.md). Table A1
# has 0.8 for twice the width of ViT-L.
RATES: Mapping[float, float] = {0.25: 1.28, 0.5: 1.28, 1: 1, 2: 0.7}


def wide(ratio: float) -> Arm:
    """Return an arm with an encoder of another width, in heads of one width, and with its learning rate."""
    # The probe splits features into heads of one width for all arms.
    arm, rate = widened(ratio, "model.encoder", multiple="evaluation.probe.head_dim"), RATES[ratio]

    def change(run: Any) -> Any:
        return replaced(arm.change(run), {"optimizer.peak_lr": run.optimizer.peak_lr * rate})

    return replace(arm, label=f"encoder {ratio:g} x as wide", change=change)
