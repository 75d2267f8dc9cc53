"""Time that a run still takes: its steps with the points of its held-out curve, and the evaluation at the end."""

import contextlib
import statistics
from pathlib import Path

from aimv2.base.errors import UsageError
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.run.pricing.effort import CURVE_SHARE
from aimv2.run.pricing.recorded import RecordedTime, nearest, recorded, seconds_of


class EvaluationTimes:
    """Seconds of the evaluation of each arm of a sweep.

    They are those of a finished run of the arm; if there is none, those that the table of recorded times gives; or else
    the median of finished runs of other arms.
    """

    def __init__(self) -> None:
        self._finished: dict[str, float | None] = {}
        self._recorded: dict[str, float | None] = {}
        self._tables: dict[Path, list[RecordedTime]] = {}

    def learn(self, arm: str, run: Path) -> None:
        """Read the time of a finished run of an arm, unless one of the arm was read before."""
        if arm not in self._finished:
            self._finished[arm] = None
            with contextlib.suppress(UsageError, OSError, ValueError, KeyError, TypeError):  # its record is incomplete
                self._finished[arm] = seconds_of(run)["evaluation"]

    def of(self, arm: str, config: Program) -> float | None:
        """Return the seconds of an arm's evaluation; None if nothing like it was measured."""
        if self._finished.get(arm) is not None:
            return self._finished[arm]
        if arm not in self._recorded:
            self._recorded[arm] = self._nearest(config)
        if self._recorded[arm] is not None:
            return self._recorded[arm]
        others = [seconds for seconds in self._finished.values() if seconds is not None]
        return statistics.median(others) if others else None

    def _nearest(self, config: Program) -> float | None:
        if config.device != "cpu":  # torch, which a GPU's name needs, takes seconds to load
            return None
        folder = config.cache_dir
        if folder not in self._tables:
            self._tables[folder] = recorded(folder)
        found = nearest(config, "evaluation", self._tables[folder])
        return None if found is None else found[0]


def training_left(config: Program, samples: int, images_per_second: float) -> float:
    """Return the seconds of training that are left after so many samples, with those of the held-out curve."""
    if not isinstance(config, RunConfig):
        return (config.num_samples - samples) / images_per_second
    left = config.budget.samples - samples
    pairs = config.evaluation.curve_points * config.evaluation.curve_pairs * left / max(config.budget.samples, 1)
    return (left + CURVE_SHARE * pairs) / images_per_second
