"""Parts of a run's final evaluation, saved as they finish, so that a later attempt does not measure them again."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from aimv2.base.errors import RunFailedError
from aimv2.base.interrupt import Interrupts
from aimv2.definitions.items import Items
from aimv2.runs.attempt import PARTS, Attempt
from aimv2.runs.tensor_file import fingerprint, origin_of, read_described, write_described
from aimv2.training.world import ALONE, World


class Measured(NamedTuple):
    items: Items
    how: str  # it was measured
    warning: str = ""  # what makes it doubtful
    number: float | None = None  # the value, if it is no ratio of sums over items

    @property
    def value(self) -> float:
        return self.items.value if self.number is None else self.number


Measure = Callable[[Sequence[str]], list[dict[str, Measured]]]  # from the names of parts
MeasureParts = Callable[[Sequence[str], Measure], dict[str, Measured]]


def finite(measured: dict[str, Measured]) -> dict[str, Measured]:
    """Return the metrics, or fail the run if a value is not finite."""
    for name, metric in measured.items():
        if len(metric.items.item_N) and not math.isfinite(metric.value):
            raise RunFailedError("not finite", f"{name} is {metric.value} after training")
    return measured


def unsaved(names: Sequence[str], measure: Measure) -> dict[str, Measured]:
    return _together(measure(names))


def beside(world: World) -> MeasureParts:
    """Return ``Parts`` of a rank beside rank 0, which knows the missing ones."""

    def part(names: Sequence[str], measure: Measure) -> dict[str, Measured]:
        missing = world.of(0, None)
        return _together(measure(missing)) if missing else {}

    return part


class Parts:
    """The parts of an attempt's evaluation: those that earlier attempts saved, and new ones.

    A part is used again only with the same run, code, torch and weights. The weights are compared by their hash,
    because training that is repeated on a GPU may end with others. What is measured is a function of these four, so
    the result is bitwise that of an uninterrupted evaluation, if all attempts ran on equal hardware. ``measured_by``
    has the numbers of the earlier attempts whose parts were used. Ranks of the world beside this one call ``beside``.
    """

    def __init__(
        self, attempt: Attempt, weights: Mapping[str, Tensor], interrupts: Interrupts, world: World = ALONE
    ) -> None:
        self.measured_by: set[int] = set()
        self._attempt, self._interrupts, self._world = attempt, interrupts, world
        self._origin = origin_of(attempt.folder) | {"weights": fingerprint(weights)}

    def __call__(self, names: Sequence[str], measure: Measure) -> dict[str, Measured]:
        """Return parts, measured by earlier attempts or, by ``measure``, now.

        Raises:
            KeyboardInterrupt: the run was interrupted, and the new parts are saved.
            LeaseLostError: another process has taken over the run.
        """
        parts = {name: self._earlier(name) for name in names}
        missing = self._world.of(0, [name for name, part in parts.items() if part is None])
        if missing:
            parts |= self._new(missing, measure)
            if self._interrupts.is_requested:
                raise KeyboardInterrupt
        return _together(part for part in parts.values() if part is not None)

    def _new(self, names: Sequence[str], measure: Measure) -> dict[str, dict[str, Measured]]:
        """Measure and save parts; each has an equal share of the time that they took together."""
        attempt, started = self._attempt, (self._attempt.seconds, self._attempt.cpu_seconds)
        parts = dict(zip(names, measure(names), strict=True))
        ended = attempt.seconds, attempt.cpu_seconds
        seconds, cpu_seconds = ((end - start) / len(names) for start, end in zip(started, ended, strict=True))
        for name, part in parts.items():
            path = _file(attempt.folder, name)
            tensors = {
                f"{field}/{metric}": torch.tensor(values)
                for metric, measured in part.items()
                for field, values in measured.items._asdict().items()
            }
            about = {"metrics": {metric: measured[1:] for metric, measured in part.items()}}
            attempt.sync_rows()
            path.parent.mkdir(exist_ok=True)
            write_described(tensors, path, self._origin | about | {"seconds": seconds, "cpu_seconds": cpu_seconds})
            attempt.mark_progress()
        return parts

    def _earlier(self, name: str) -> dict[str, Measured] | None:
        for folder in self._attempt.earlier():
            path = _file(folder, name)
            if path.exists():
                try:
                    return self._read(path, number=int(folder.name))
                except (OSError, SafetensorError, ValueError) as error:
                    print(f"{path} is not used: {error}", file=sys.stderr)
        return None

    def _read(self, path: Path, number: int) -> dict[str, Measured]:
        about, tensors = read_described(path, self._origin)
        self._attempt.resume_from([], seconds=about["seconds"], cpu_seconds=about["cpu_seconds"])
        self.measured_by.add(number)
        return {
            # Copied, because the tensors are views of the file, which is deleted when the run is done.
            metric: Measured(Items(*(tensors[f"{field}/{metric}"].numpy().copy() for field in Items._fields)), *text)
            for metric, text in about["metrics"].items()
        }


def _together(parts: Iterable[Mapping[str, Measured]]) -> dict[str, Measured]:
    return {metric: measured for part in parts for metric, measured in part.items()}


def _file(attempt: Path, name: str) -> Path:
    return attempt / PARTS / f"{name}.safetensors"
