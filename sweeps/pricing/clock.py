"""How long a run takes on this machine."""

import contextlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from aimv2.config.run_config import RunConfig, to_dict
from aimv2.errors import UsageError
from aimv2.hardware import hardware
from aimv2.runs.files import read_json, write_json
from sweeps.pricing.calibrate import calibrate
from sweeps.pricing.price import RunSeconds
from sweeps.pricing.recorded import Times, evaluation_shape, recorded_times, training_shape

Calibration = Callable[[RunConfig, Path | None], Times | None]


class MachineClock:
    """Time of a run on this machine, from the first source that knows it.

    1. Finished runs of that shape on that hardware in the runs folder: their median.
    2. A measurement in the cache folder, made once per machine and shape.
    3. A calibration run, which makes that measurement.
    """

    def __init__(self, runs_dir: Path, *, keep: bool = False, measure: Calibration | None = calibrate) -> None:
        """
        Args:
            keep: write to the run's cache folder; otherwise a calibration run leaves nothing behind.
            measure: does a calibration run; None does none.
        """
        self._runs_dir = runs_dir
        self._keep = keep
        self._measure = measure
        self._measured: dict[str, Times | None] = {}

    def __call__(self, config: RunConfig) -> RunSeconds | None:
        """Return the time of a run, or None if it is not known and the model is too large to train here."""
        shapes = _shapes(config)
        times = [found for shape in shapes if (found := self._recorded.get(shape) or self._measurement(config, shape))]
        if len(times) < len(shapes):
            return None
        evaluation_seconds = times[0]["evaluation_seconds"]
        if not config.budget.samples:
            return RunSeconds(0.0, evaluation_seconds)
        curve_pairs = config.evaluation.curve_points * config.evaluation.curve_pairs
        curve_seconds = curve_pairs * times[1].get("curve_seconds_per_pair", 0.0)
        return RunSeconds(config.budget.samples / times[1]["images_per_second"], curve_seconds + evaluation_seconds)

    def images_per_second(self, config: RunConfig) -> float | None:
        """Return the speed of training, or None if the model is too large to train here.

        Recorded runs do not count: with ``sweep.equal=seconds`` it decides the samples of a run and so its name, and
        their median changes with every run.
        """
        _, training = _shapes(config)
        found = self._measurement(config, training)
        return None if found is None else found["images_per_second"]

    @cached_property
    def _recorded(self) -> dict[str, Times]:
        return recorded_times(self._runs_dir)

    def _measurement(self, config: RunConfig, shape: str) -> Times | None:
        if shape not in self._measured:
            self._measured[shape] = _read(_file(config, shape))
            if self._measured[shape] is None and self._measure is not None:
                self._calibrate(config, self._measure)
        return self._measured[shape]

    def _calibrate(self, config: RunConfig, measure: Calibration) -> None:
        times = measure(config, Path(config.data.cache_dir) if self._keep else None)
        for shape in _shapes(config):
            path = _file(config, shape)
            self._measured[shape] = self._measured.get(shape) or _read(path) or times
            if self._keep and self._measured[shape] is times is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, times)


def _shapes(config: RunConfig) -> list[str]:
    """Return the names of the shapes of the run's evaluation and, if it is trained, of its training."""
    run, here = to_dict(config), hardware(config.device)
    return [evaluation_shape(run, here), *([training_shape(run, here)] if config.budget.samples else [])]


def _file(config: RunConfig, shape: str) -> Path:
    return Path(config.data.cache_dir) / "speed" / f"{shape}.json"


def _read(path: Path) -> Times | None:
    """Return an earlier measurement, or None if there is none or it is broken."""
    with contextlib.suppress(UsageError):
        found = read_json(path)
        if isinstance(found, dict) and found:
            return found
    return None
