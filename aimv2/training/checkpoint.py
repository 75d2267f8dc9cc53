"""Checkpoints, from which a run resumes bitwise.

Batches and learning rates are functions of the step, and no random stream is consumed. So weights, AdamW's moments and
the number of steps are the whole state.
"""

import contextlib
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from aimv2.data.tally import Tally
from aimv2.runs.attempt import CHECKPOINT as FILE
from aimv2.runs.attempt import CHECKPOINT_PARTIAL as PARTIAL
from aimv2.runs.attempt import Attempt
from aimv2.runs.rows import read_rows
from aimv2.runs.tensor_file import origin_of, read_about, read_described, write_described

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of a parameter


@dataclass(frozen=True)
class Progress:
    """Steps done, what they have shown, and the wall and CPU time that they took over all attempts so far."""

    step: int = 0
    counts: tuple[int, ...] = ()  # ``Tally.counts`` of these steps; empty before the first
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        attempt: the number of the attempt that saved it.
        rows: that attempt's metric rows up to the checkpoint's step.
        tensors: ``model/NAME`` for each tensor of the model, ``MOMENT/NAME`` for each moment of a parameter.
    """

    attempt: int
    progress: Progress
    rows: list[dict[str, Any]]
    tensors: dict[str, Tensor]

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Load the state into the model and optimizer that the run's config describes, and let go of the tensors.

        They are views of the file, whose space the disk gets back only when they are gone.
        """
        model.load_state_dict({name: self.tensors[f"model/{name}"] for name in model.state_dict()})
        for name, parameter in model.named_parameters():
            if f"step/{name}" in self.tensors:  # a parameter without gradients so far has no moments
                optimizer.state[parameter] = {
                    moment: self.tensors[f"{moment}/{name}"].to(parameter.device, copy=True) for moment in MOMENTS
                }
        self.tensors.clear()


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write the attempt's checkpoint, replacing the previous one.

    Raises:
        OSError: the file cannot be written; the previous one is still there.
    """
    write_described(_tensors(model, optimizer), folder / FILE, origin_of(folder) | asdict(progress))


def save_attempt(attempt: Attempt, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, shown: Tally) -> None:
    """Save a checkpoint of the attempt after its rows.

    The attempt's first one replaces those that earlier attempts made with the same code and torch. Others stay until
    the run is done, because a later attempt may use that code again.

    Args:
        shown: counts of the steps done.

    Raises:
        LeaseLostError: another process has taken over the run.
        OSError: the file cannot be written.
    """
    attempt.sync_rows()
    is_first = not (attempt.folder / FILE).exists()
    counts = tuple(shown.counts.tolist())
    save(attempt.folder, model, optimizer, Progress(step, counts, attempt.seconds, attempt.cpu_seconds))
    attempt.mark_progress()
    if is_first:
        origin = origin_of(attempt.folder).items()
        for folder in attempt.earlier():
            shutil.rmtree(folder / PARTIAL, ignore_errors=True)
            if origin <= read_about(folder / FILE).items():
                with contextlib.suppress(OSError):  # deleted when the run is done
                    (folder / FILE).unlink()


def find(folders: Iterable[Path]) -> Checkpoint | None:
    """Return the first checkpoint among these attempts that is usable; print to stderr why the others are not."""
    for folder in folders:
        if not (folder / FILE).exists():
            continue
        try:
            return read(folder)
        except (OSError, SafetensorError, ValueError) as error:
            print(f"{folder / FILE} is not used: {error}", file=sys.stderr)
    return None


def resume(attempt: Attempt) -> Checkpoint | None:
    """Resume the attempt from the newest usable checkpoint of earlier ones, if there is one."""
    start = find(attempt.earlier())
    if start is not None:
        progress = start.progress
        attempt.resume_from(
            start.rows, seconds=progress.seconds, cpu_seconds=progress.cpu_seconds, attempt=start.attempt
        )
    return start


def remove(folder: Path) -> None:
    """Delete the attempt's checkpoint, and the partial one that a killed process may have left."""
    (folder / FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def read(folder: Path) -> Checkpoint:
    """Read an attempt's checkpoint.

    Raises:
        OSError, SafetensorError: the file cannot be read.
        ValueError: the file is damaged, or another run or other code saved it.
    """
    values, tensors = read_described(folder / FILE, origin_of(folder))
    progress = Progress(**values | {"counts": tuple(values["counts"])})
    rows = [row for row in read_rows(folder) if row["step"] <= progress.step]
    if [row["step"] for row in rows] != list(range(progress.step + 1)):
        raise ValueError(f"metrics.jsonl lacks steps before {progress.step}")
    return Checkpoint(int(folder.name), progress, rows, tensors)


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    named = {f"model/{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        moments = optimizer.state.get(parameter, {})
        named |= {f"{moment}/{name}": value for moment, value in moments.items()}
    return {name: value.detach().cpu().contiguous() for name, value in named.items()}
