"""Checkpoints: all that a run needs to go on as if nothing had happened.

Batches and learning rates are functions of the step's number, and nothing draws from a stream. So weights, AdamW's
moments and the number of steps are the whole state.
"""

import json
import shutil
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

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
    """How far a run has come.

    Attributes:
        step: steps done.
        num_supervised: supervised tokens in them, which training FLOPs depend on.
        seconds: wall time, over all attempts that led here.
        cpu_seconds: the same of the CPU.
    """

    step: int = 0
    num_supervised: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read.

    Attributes:
        attempt: the number of the attempt that kept it.
        rows: that attempt's metric rows up to the checkpoint's step.
        tensors: ``model/NAME`` for each tensor of the model, ``MOMENT/NAME`` for each moment of a parameter.
    """

    attempt: int
    progress: Progress
    rows: list[dict[str, Any]]
    tensors: Mapping[str, Tensor]

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put model and optimizer, as the run's config makes them, into the checkpoint's state."""
        model.load_state_dict({name: self.tensors[f"model/{name}"] for name in model.state_dict()})
        for name, parameter in model.named_parameters():
            if f"step/{name}" in self.tensors:  # a parameter that never had a gradient has no moments
                optimizer.state[parameter] = {
                    moment: self.tensors[f"{moment}/{name}"].to(parameter.device, copy=True) for moment in MOMENTS
                }


def keep(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write the attempt's checkpoint, in place of its last one.

    Raises:
        OSError: it could not be written; the last one is still there.
    """
    tensors = _tensors(model, optimizer)
    about = json.dumps(_origin(folder) | asdict(progress))
    partial = folder / PARTIAL / FILE
    try:
        partial.parent.mkdir(exist_ok=True)
        save_tensors(tensors, partial, {"about": about, "checksum": _checksum(about, tensors)})
        sync(partial)
        partial.replace(folder / FILE)
    except SafetensorError as error:  # how safetensors says that a disk is full
        raise OSError(f"{folder / FILE} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial.parent, ignore_errors=True)
    sync(folder)


def keeper(attempt: Attempt) -> Callable[[nn.Module, torch.optim.Optimizer, int, int], None]:
    """What the training loop calls, with the steps done and the supervised tokens in them, to have a checkpoint kept.

    Raises, when called:
        LeaseLostError: another process took the run over meanwhile.
        OSError: it could not be written.
    """

    def keep_now(model: nn.Module, optimizer: torch.optim.Optimizer, step: int, num_supervised: int) -> None:
        attempt.sync_rows()
        keep(attempt.folder, model, optimizer, Progress(step, num_supervised, attempt.seconds, attempt.cpu_seconds))

    return keep_now


def find(folders: Iterable[Path]) -> Checkpoint | None:
    """The first checkpoint among these attempts that can be gone on from; stderr says of each other why not."""
    for folder in folders:
        if not (folder / FILE).exists():
            continue
        try:
            return read(folder)
        except (OSError, SafetensorError, ValueError) as error:
            print(f"{folder / FILE} is not used: {error}", file=sys.stderr)
    return None


def code_of(folder: Path) -> str:
    """The digest of the code that the attempt's checkpoint was made with; empty if that cannot be read."""
    try:
        with safe_open(folder / FILE, "pt") as file:
            return str(json.loads((file.metadata() or {})["about"])["code"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return ""


def remove(folder: Path) -> None:
    """Delete the attempt's checkpoint, if it has one, and what a kill may have left of another."""
    (folder / FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def read(folder: Path) -> Checkpoint:
    """An attempt's checkpoint. Raises ValueError, OSError or SafetensorError if it is broken, or was kept by another
    run or by other code."""
    with safe_open(folder / FILE, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = metadata.get("about", "")
    if metadata.get("checksum") != _checksum(about, tensors):
        raise ValueError("its checksum does not fit its content")
    values = json.loads(about)
    for what, here in _origin(folder).items():
        if (there := values.pop(what)) != here:
            raise ValueError(f"it is of {what} {there}, and this is {here}")
    progress = Progress(**values)
    rows = [row for row in read_rows(folder) if row["step"] <= progress.step]
    if [row["step"] for row in rows] != list(range(progress.step + 1)):
        raise ValueError(f"the metrics beside it lack steps before {progress.step}")
    return Checkpoint(int(folder.name), progress, rows, tensors)


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    named = {f"model/{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        moments = optimizer.state.get(parameter, {})
        named |= {f"{moment}/{name}": value for moment, value in moments.items()}
    return {name: value.detach().cpu().contiguous() for name, value in named.items()}


def _origin(folder: Path) -> dict[str, str]:
    """What has to be the same for a run to go on bitwise: the run, and the code that does it."""
    return {"run": folder.parent.parent.name, "torch": torch.__version__, "code": digest()}


def _checksum(about: str, tensors: Mapping[str, Tensor]) -> str:
    """Of everything that is in the file, which safetensors itself does not check."""
    value = zlib.crc32(about.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
