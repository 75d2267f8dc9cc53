"""Checkpoints, from which a run resumes bitwise, and when they are saved.

Batches and learning rates are functions of the step, and no random stream is consumed. So weights, the state of the
optimizer and the number of steps are all there is. A checkpoint is a folder of shards (``aimv2.training.shards``),
named by its step, that any number of ranks can load, whether each holds whole weights or shards of them.
"""

import contextlib
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from aimv2.data.batches.batch import Tally
from aimv2.runs.attempt import CHECKPOINT as FOLDER
from aimv2.runs.attempt import CHECKPOINT_PARTIAL as PARTIAL
from aimv2.runs.attempt import Attempt
from aimv2.runs.rows import read_rows
from aimv2.runs.tensor_file import origin_of, without_origin
from aimv2.training.shards import load_shards, read_about, tensors_in, verify_shards, write_shards
from aimv2.training.world import ALONE, World, is_of_all_ranks

Save = Callable[[nn.Module, torch.optim.Optimizer, int, Tally], "Future[None]"]
SAVE_INTERVAL = 99  # times the seconds for which the last save stalled training


@dataclass(frozen=True)
class Progress:
    """Steps done, what they have shown, and the wall and CPU time that they took over all attempts so far."""

    step: int = 0
    counts: tuple[int, ...] = ()  # ``Tally.counts`` of these steps; empty before the first
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        path: its folder. The tensors are ``model/NAME`` for each tensor of the model, and ``KEY/NAME`` for each tensor
            of the optimizer's state of a parameter, such as ``exp_avg/encoder.norm.weight``.
    """

    path: Path
    attempt: int  # the number of the attempt that saved it
    progress: Progress
    rows: list[dict[str, Any]]  # that attempt's metric rows up to the checkpoint's step

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Load the state into the model and optimizer that the run's config describes.

        With several ranks each calls it, and reads its shards only.
        """
        _make_state(model, optimizer, tensors_in(self.path))
        load_shards(_tensors(model, optimizer), self.path)


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    *,
    world: World = ALONE,
    check: Callable[[], None] = lambda: None,
    then: Callable[[], None] = lambda: None,
) -> Future[None]:
    """Copy the state to the CPU, and write it as the attempt's checkpoint in a thread. All ranks call it.

    The previous checkpoint is deleted once the new one is complete. It is a thread of our own, because the future of
    torch's ``async_save`` reports an error before partial files can be deleted, and it copies each shard twice.
    """
    mine = _share(_tensors(model, optimizer), world)
    copied = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in mine.items()}
    path, about = folder / FOLDER / f"{progress.step:09d}", origin_of(folder) | asdict(progress)

    def write() -> None:
        try:
            write_shards(copied, path, folder / PARTIAL / path.name, about, group=world.saving, on_written=check)
        except BaseException:
            if world.rank == 0:
                shutil.rmtree(folder / PARTIAL, ignore_errors=True)
            raise
        if world.rank == 0:
            with contextlib.suppress(OSError):  # files of an earlier process
                (folder / PARTIAL).rmdir()
            for other in set(_saved(folder)) - {path}:
                shutil.rmtree(other, ignore_errors=True)
            then()

    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
    writing = thread.submit(write)
    thread.shutdown(wait=False)
    return writing


def save_attempt(
    attempt: Attempt, world: World, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, shown: Tally
) -> Future[None]:
    """Save a checkpoint of the attempt after its rows, as rank 0 (``save``).

    The attempt's first one replaces those that earlier attempts made with the same code and torch. Others stay until
    the run is done, because a later attempt may use that code again.
    """
    unsynced: OSError | None = None
    try:
        attempt.sync_rows()
    except OSError as error:
        unsynced = error  # the save must begin on all ranks, and then fails on all
    is_first = not attempt.has_progress

    def check() -> None:
        if unsynced is not None:
            raise unsynced
        attempt.check_lease()

    def then() -> None:
        attempt.mark_progress()
        if is_first:
            _remove_earlier(attempt)

    progress = Progress(step, tuple(shown.counts.tolist()), attempt.seconds, attempt.cpu_seconds)
    return save(attempt.folder, model, optimizer, progress, world=world, check=check, then=then)


def save_share(
    folder: Path, world: World, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, shown: Tally
) -> Future[None]:
    """Save the share of another rank than 0 in a checkpoint."""
    return save(folder, model, optimizer, Progress(step), world=world)


def find(folders: Iterable[Path]) -> Checkpoint | None:
    """Return the first checkpoint among these attempts that is usable; print to stderr why the others are not."""
    for folder in folders:
        for path in _saved(folder):
            try:
                saved = read(path)
                verify_shards(path, read_about(path))
            except (OSError, ValueError) as error:
                print(f"{path} is not used: {error}", file=sys.stderr)
            else:
                return saved
    return None


def resume(attempt: Attempt) -> Checkpoint | None:
    """Resume the attempt from the newest usable checkpoint of earlier ones, if there is one."""
    start = find(attempt.earlier())
    if start is not None:
        progress = start.progress
        attempt.resume_from(start.rows, seconds=progress.seconds, cpu_seconds=progress.cpu_seconds)
    return start


def read(path: Path) -> Checkpoint:
    """Return the checkpoint in a folder; its shards are not verified."""
    attempt = path.parents[1]
    values = without_origin(read_about(path).about, origin_of(attempt))
    progress = Progress(**values | {"counts": tuple(values["counts"])})
    rows = [row for row in read_rows(attempt) if row["step"] <= progress.step]
    if [row["step"] for row in rows] != list(range(progress.step + 1)):
        raise ValueError(f"metrics.jsonl lacks steps before {progress.step}")
    return Checkpoint(path, int(attempt.name), progress, rows)


def _saved(folder: Path) -> list[Path]:
    """Return the complete checkpoints of an attempt, newest first; two if it was killed before it deleted one."""
    return sorted((folder / FOLDER).glob("[0-9]*"), reverse=True)


def _remove_earlier(attempt: Attempt) -> None:
    origin = origin_of(attempt.folder)
    for folder in attempt.earlier():
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        for path in _saved(folder):
            try:
                without_origin(read_about(path).about, origin)
            except (OSError, ValueError):  # deleted when the run is done
                continue
            shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    named = {f"model/{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        named |= {f"{key}/{name}": value for key, value in state.items() if isinstance(value, Tensor)}
    return named


def _make_state(model: nn.Module, optimizer: torch.optim.Optimizer, saved: Mapping[str, TensorStorageMetadata]) -> None:
    """Give the optimizer the state that was saved, as zeros; torch moves it to the device where the optimizer has it.

    A parameter without gradients so far has none.
    """
    parameters, state = dict(model.named_parameters()), defaultdict[int, dict[str, Tensor]](dict)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = {parameter: number for number, parameter in enumerate(trained)}
    for name, tensor in saved.items():
        key, _, of = name.partition("/")
        if key == "model":
            continue
        parameter = parameters[of]
        if key != "step" and tensor.size == parameter.shape:
            zeros = torch.zeros_like(parameter)  # sharded, if the parameter is
        else:
            assert key == "step" or not isinstance(parameter, DTensor), f"{name} has another shape than its shards"
            zeros = torch.zeros(tensor.size, dtype=tensor.properties.dtype)
        state[numbers[parameter]][key] = zeros
    optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(state)})


def _share(named: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Return what this rank writes: its shards, and of the tensors that all ranks hold about an equal part."""
    sizes, share = [0] * world.size, dict[str, Tensor]()
    for name, value in named.items():
        if isinstance(value, DTensor):
            share[name] = value
            continue
        owner = sizes.index(min(sizes))
        sizes[owner] += value.numel()
        if owner == world.rank:
            share[name] = value
    return share


class SaveTimer:
    """The interval between two saves: ``every_seconds``, or 99 times the last stall of training if that is more."""

    def __init__(self, every_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_seconds, self._clock = every_seconds, clock
        self._ended, self._cost = clock(), 0.0

    @property
    def is_due(self) -> bool:
        return self._clock() - self._ended >= max(self._every_seconds, SAVE_INTERVAL * self._cost)

    @contextmanager
    def saving(self) -> Iterator[None]:
        started = self._clock()
        yield
        self._ended = self._clock()
        self._cost = self._ended - started


class Saver:
    """Saves checkpoints, one at a time. One that cannot be written is a warning, and the next is tried at its time.

    As a context, it waits for the last one at the end, but not after an error of one of several ranks: all ranks write
    a checkpoint together, and the others learn of the error only when the context has ended. ``wait`` is for later.
    """

    def __init__(self, save: Save | None = None, timer: SaveTimer | None = None, world: World = ALONE) -> None:
        self._save, self._timer, self._world = save, timer or SaveTimer(), world
        self._writing: Future[None] | None = None
        self._step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._world.size == 1 or error is None or is_of_all_ranks(error):
            self.wait()

    def wait(self) -> None:
        """Wait until the last checkpoint is written or has failed."""
        if self._writing is not None:
            # The other ranks may have ended, and whatever has failed here is already being raised.
            with contextlib.suppress(Exception):
                self._writing.result()

    @property
    def is_due(self) -> bool:
        """True on rank 0 when its clock says so and no checkpoint is being written; the other ranks follow it."""
        is_idle = self._writing is None or self._writing.done()
        return self._save is not None and self._world.rank == 0 and is_idle and self._timer.is_due

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, shown: Tally) -> None:
        """Save a checkpoint, once the previous one is written."""
        if self._save is None:
            return
        with self._timer.saving():
            try:
                self.finish()
            except OSError as error:
                print(f"no checkpoint at step {self._step}, training goes on: {error}", file=sys.stderr)
            self._writing, self._step = self._save(model, optimizer, step, shown), step

    def finish(self) -> None:
        """Wait until the checkpoint is written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
