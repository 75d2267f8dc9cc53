"""Checkpoints, from which a run resumes bitwise.

Batches and learning rates are functions of the step, and no random stream is consumed. So weights, AdamW's moments and
the number of steps are the whole state.
"""

import json
import shutil
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from aimv2.data.tally import Tally
from aimv2.runs.files import sync
from aimv2.runs.provenance import digest
from aimv2.runs.record import CHECKPOINT as FILE
from aimv2.runs.record import CHECKPOINT_PARTIAL as PARTIAL
from aimv2.runs.record import Attempt
from aimv2.runs.rows import read_rows
from aimv2.runs.tensor_file import save_tensors

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
    tensors: Mapping[str, Tensor]

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Load the state into the model and optimizer that the run's config describes."""
        model.load_state_dict({name: self.tensors[f"model/{name}"] for name in model.state_dict()})
        for name, parameter in model.named_parameters():
            if f"step/{name}" in self.tensors:  # a parameter without gradients so far has no moments
                optimizer.state[parameter] = {
                    moment: self.tensors[f"{moment}/{name}"].to(parameter.device, copy=True) for moment in MOMENTS
                }


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write the attempt's checkpoint, replacing the previous one.

    Raises:
        OSError: the file cannot be written; the previous one is still there.
    """
    tensors = _tensors(model, optimizer)
    about = json.dumps(_origin(folder) | asdict(progress))
    write_tensors(tensors, folder / FILE, {"about": about, "checksum": _checksum(about, tensors)})


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write or replace a file of an attempt's folder, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    partial = path.parent / PARTIAL / path.name
    try:
        partial.parent.mkdir(exist_ok=True)
        save_tensors(tensors, partial, metadata)
        sync(partial)
        partial.replace(path)
    except SafetensorError as error:  # raised when the disk is full
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial.parent, ignore_errors=True)
    sync(path.parent)


def save_attempt(attempt: Attempt, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, shown: Tally) -> None:
    """Save a checkpoint of the attempt after its rows.

    Args:
        shown: counts of the steps done.

    Raises:
        LeaseLostError: another process has taken over the run.
        OSError: the file cannot be written.
    """
    attempt.sync_rows()
    counts = tuple(shown.counts.tolist())
    save(attempt.folder, model, optimizer, Progress(step, counts, attempt.seconds, attempt.cpu_seconds))


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
        attempt.resume_from(start.rows, seconds=start.progress.seconds, cpu_seconds=start.progress.cpu_seconds)
    return start


def code_of(folder: Path) -> str:
    """Return the digest of the code that saved the attempt's checkpoint; empty if it cannot be read."""
    try:
        with safe_open(folder / FILE, "pt") as file:
            return str(json.loads((file.metadata() or {})["about"])["code"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return ""


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
    with safe_open(folder / FILE, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = metadata.get("about", "")
    if metadata.get("checksum") != _checksum(about, tensors):
        raise ValueError("its checksum does not match its content")
    values = json.loads(about)
    for name, here in _origin(folder).items():
        if (there := values.pop(name)) != here:
            raise ValueError(f"it was saved with {name}={there}, not {here}")
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


def _origin(folder: Path) -> dict[str, str]:
    """Return what must be equal for a bitwise resume: the run and the code."""
    return {"run": folder.parent.parent.name, "torch": torch.__version__, "code": digest()}


def _checksum(about: str, tensors: Mapping[str, Tensor]) -> str:
    """Return a checksum of the file's content, which safetensors does not verify."""
    value = zlib.crc32(about.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
