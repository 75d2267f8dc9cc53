"""Parts of a run's final evaluation, saved as they finish, so that a later attempt does not measure them again."""

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from aimv2.evaluation.items import Items
from aimv2.runs.attempt import PARTS, Attempt
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.tensor_file import fingerprint, origin_of, read_described, write_described


class Measured(NamedTuple):
    """A metric's items, how it was measured, and what makes it doubtful."""

    items: Items
    how: str
    warning: str = ""


Measure = Callable[[], dict[str, Measured]]
Part = Callable[[str, Measure], dict[str, Measured]]


def unsaved(name: str, measure: Measure) -> dict[str, Measured]:
    """Measure a part of an evaluation that is not recorded."""
    return measure()


class Parts:
    """The parts of an attempt's evaluation: those that earlier attempts saved, and new ones.

    A part is used again only with the same run, code, torch and weights. The weights are compared by their hash,
    because training that is repeated on a GPU may end with others. What is measured is a function of these four, so
    the result is bitwise that of an uninterrupted evaluation, if all attempts ran on equal hardware.

    Args:
        weights: of the trained model.
        interrupts: checked after each new part.

    Attributes:
        measured_by: numbers of the earlier attempts whose parts were used.
    """

    def __init__(self, attempt: Attempt, weights: Mapping[str, Tensor], interrupts: Interrupts) -> None:
        self.measured_by: set[int] = set()
        self._attempt, self._interrupts = attempt, interrupts
        self._origin = origin_of(attempt.folder) | {"weights": fingerprint(weights)}

    def __call__(self, name: str, measure: Measure) -> dict[str, Measured]:
        """Return a part, measured by an earlier attempt or now.

        Raises:
            KeyboardInterrupt: the run was interrupted, and the new part is saved.
            LeaseLostError: another process has taken over the run.
            OSError: the part cannot be saved.
        """
        for folder in self._attempt.earlier():
            path = _file(folder, name)
            if path.exists():
                try:
                    return self._read(path, number=int(folder.name))
                except (OSError, SafetensorError, ValueError) as error:
                    print(f"{path} is not used: {error}", file=sys.stderr)
        started, cpu_started = self._attempt.seconds, self._attempt.cpu_seconds
        found = measure()
        times = {"seconds": self._attempt.seconds - started, "cpu_seconds": self._attempt.cpu_seconds - cpu_started}
        self._save(found, times, _file(self._attempt.folder, name))
        if self._interrupts.is_requested:
            raise KeyboardInterrupt
        return found

    def _read(self, path: Path, number: int) -> dict[str, Measured]:
        about, tensors = read_described(path, self._origin)
        self._attempt.resume_from([], seconds=about["seconds"], cpu_seconds=about["cpu_seconds"])
        self.measured_by.add(number)
        return {
            # Copied, because the tensors are views of the file, which is deleted when the run is done.
            metric: Measured(Items(*(tensors[f"{field}/{metric}"].numpy().copy() for field in Items._fields)), *text)
            for metric, text in about["metrics"].items()
        }

    def _save(self, found: Mapping[str, Measured], times: Mapping[str, float], path: Path) -> None:
        tensors = {
            f"{field}/{metric}": torch.tensor(values)
            for metric, measured in found.items()
            for field, values in measured.items._asdict().items()
        }
        texts = {metric: (measured.how, measured.warning) for metric, measured in found.items()}
        self._attempt.sync_rows()
        path.parent.mkdir(exist_ok=True)
        write_described(tensors, path, {**self._origin, **times, "metrics": texts})
        self._attempt.mark_progress()


def remove(attempt: Path) -> None:
    """Delete the parts that the attempt saved."""
    shutil.rmtree(attempt / PARTS, ignore_errors=True)


def _file(attempt: Path, name: str) -> Path:
    return attempt / PARTS / f"{name}.safetensors"
