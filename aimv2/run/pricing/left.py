"""Time that a run still takes: its steps, the points of its held-out curve, and the evaluation at the end."""

import contextlib
import statistics
from pathlib import Path

from aimv2.base.hardware import hardware
from aimv2.config.run_config import RunConfig
from aimv2.config.serialization import to_dict
from aimv2.run.pricing.recorded import Times, kept_times, run_times, shapes


class ArmTimes:
    """Times of the runs of each arm of a sweep.

    They are those of a finished run of the arm; if there is none, of the last run of its shape on this machine; or else
    of finished runs of other arms.
    """

    def __init__(self) -> None:
        self._finished: dict[str, Times] = {}
        self._kept: dict[str, Times] = {}

    def learn(self, arm: str, run: Path) -> None:
        """Read the times of a finished run of an arm, unless one of the arm was read before."""
        if arm not in self._finished:
            self._finished[arm] = {}
            with contextlib.suppress(ValueError, OSError, KeyError, TypeError):  # its record is incomplete
                self._finished[arm] = run_times(run)

    def of(self, arm: str, config: RunConfig) -> Times:
        """Return the times of an arm's run as ``run_times`` does; empty if none are known."""
        if arm not in self._kept:
            self._kept[arm] = _kept(config)
        others = [one["evaluation_seconds"] for one in self._finished.values() if one]
        other = {"evaluation_seconds": statistics.median(others)} if others else {}
        return self._finished.get(arm) or other | self._kept[arm]


def training_left(config: RunConfig, samples: int, images_per_second: float, times: Times) -> float:
    """Return the seconds of training that are left after so many samples, with those of the held-out curve if known."""
    left = config.budget.samples - samples
    pairs = config.evaluation.curve_points * config.evaluation.curve_pairs * left / max(config.budget.samples, 1)
    return left / images_per_second + pairs * times.get("curve_seconds_per_pair", 0.0)


def _kept(config: RunConfig) -> Times:
    """Return the times of the last runs on this machine that were evaluated, and trained, as this one is."""
    if config.device != "cpu":  # torch, which a GPU's name needs, takes seconds to load
        return {}
    found = [kept_times(config, name) or {} for name in shapes(to_dict(config), hardware(config.device))]
    keys = ("evaluation_seconds", "curve_seconds_per_pair")
    return {key: times[key] for key, times in zip(keys, found, strict=False) if key in times}
