"""Which metrics can tell small known effects apart at a scale, as a sensitivity study found."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MetricSensitivity:
    """The sensitivity of a metric at a scale.

    Attributes:
        tells_small_steps: True if the metric tells the small steps of the sensitivity study's ladder apart; a metric
            that does not decides no claim.
        text: what it tells apart or does not, for verdicts.
    """

    metric: str
    tells_small_steps: bool
    text: str


def read_sensitivity(reports_dir: Path, scale: str) -> Mapping[str, MetricSensitivity]:
    """Return the sensitivity of each metric that was measured at the scale."""
    return {}


def not_measured(metric: str, scale: str) -> str:
    """Say that a metric's sensitivity is unknown, and what to run."""
    return f"sensitivity of {metric} at scale {scale} was not measured: run sweep=sensitivity scale={scale}"
