"""Several runs on one GPU: a worker that trains nothing itself and is the parent of processes which do, each as a
worker does.

The first process is alone until it has done its first steps. What the card then has in use more than before is what a
run takes, since torch keeps the memory of its peak; so another process is started as long as that fits once more. Where
it did not fit after all, the run that is out of memory is handed back as if it had been asked to stop, its process
ends, and there are never again so many.
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.failure import Failure
from aimv2.runs.record import Attempt
from sweeps.executors.card import Card, Filling, Load, NvidiaCard
from sweeps.machine.slots import seats
from sweeps.worker import Task, Work, WorkerReport, work

POLL_SECONDS = 0.5  # between two looks at whether it was asked to stop
LOOK_SECONDS = 5.0  # between two looks at the card while nothing is heard from the processes


class Word(Enum):
    """What a process tells its parent, beside how much it has reserved and, at the end, its report."""

    BEGAN = "it begins a run"
    OUT_OF_MEMORY = "its run is out of memory; is the run to be handed back?"


def check_sharing(runs: Sequence[RunConfig]) -> None:
    """Refuse runs that cannot share a GPU.

    Raises:
        UsageError: why.
    """
    if any(run.device != "cuda" for run in runs):
        raise UsageError("executor.share_gpu=true and runs on the CPU: there is no GPU that they could share")
    if (ranks := max(run.ranks for run in runs)) > 1:
        raise UsageError(f"executor.share_gpu=true and ranks={ranks}: only runs of one process share a GPU")


def pack(
    tasks: list[Task],
    runs_dir: Path,
    minutes: float | None = None,
    launch: Path | None = None,
    asked_for: float | None = None,
    *,
    at_once: int,
    takes_seats: bool = True,
    card: Callable[[int], Card] = NvidiaCard,
) -> WorkerReport:
    """Do every task that no other worker has, as many at once as fit one GPU. All else is as with ``work``.

    Args:
        at_once: runs at once, at most.
        card: the GPU of a number.
    """
    ends = None if minutes is None else time.monotonic() + 60 * minutes
    kind = partial(_Parent, at_once=at_once, ends=ends, card=card)
    return work(tasks, runs_dir, None, minutes, launch, asked_for, takes_seats=takes_seats, kind=kind)


@dataclass
class _Child:
    """A process that does runs, as its parent sees it.

    Attributes:
        is_heard: whether there may be more to hear from it.
    """

    process: SpawnProcess
    connection: Connection
    load: Load
    is_heard: bool = True
    has_reported: bool = False

    def heard(self) -> Iterator[Any]:
        """What it has said since the last time."""
        try:
            while self.is_heard and self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):  # it has ended, or was killed in the middle of a word
            self.is_heard = False

    def answer(self, value: bool) -> None:
        try:
            self.connection.send(value)
        except OSError:  # it has ended meanwhile
            self.is_heard = False


@dataclass
class _Parent(Work):
    """What a worker has before it whose processes share a GPU. It holds the GPU's seat, and cores for each process."""

    at_once: int
    ends: float | None
    card: Callable[[int], Card]
    gpu: int = 0
    children: list[_Child] = field(default_factory=list)
    seats: list[ExitStack] = field(default_factory=list)  # of all processes but one, whose is the worker's own
    gives_up: bool = False  # no process would get further

    @contextmanager
    def seated(self) -> Iterator[bool]:
        if not self.takes_seats:
            yield True
            return
        with seats("core", self._threads) as cores, seats("gpu", 1) as gpus:
            self.gpu = gpus[0] if gpus else 0
            yield bool(cores and gpus)

    @property
    def _threads(self) -> int:
        return max(task.config.threads for task in self.tasks)

    def do_all(self) -> None:
        card = self.card(self.gpu)
        used, total = card.memory()
        filling = Filling(total, used, self.at_once)
        with self.interrupts.deferred():
            try:
                self._fill(card, filling)
            finally:
                for child in self.children:  # after a second Ctrl-C
                    child.process.kill()

    def _fill(self, card: Card, filling: Filling) -> None:
        """Start processes and hear them, until none is left and none is wanted."""
        looked_at = -math.inf
        while True:
            has_news = self._hear(filling)
            if self.interrupts.was_signalled:
                for child in self.children:  # again and again, for one that is just starting does not hear it
                    child.process.terminate()
            elif has_news or time.monotonic() - looked_at >= LOOK_SECONDS:
                looked_at = time.monotonic()
                if self._wants_another(card, filling):
                    self._start(card, filling)
            if not self.children:
                return
            sentinels = [child.process.sentinel for child in self.children]
            wait([*sentinels, *(child.connection for child in self.children if child.is_heard)], POLL_SECONDS)

    def _wants_another(self, card: Card, filling: Filling) -> bool:
        if self.gives_up or not self.is_wanted:
            return False
        try:
            fits = filling.takes_another(lambda: card.memory()[0])
        except UsageError as error:  # no matter to the runs that are there
            print(f"no run is added to them: {error}", file=sys.stderr)
            return False
        return fits and any(task.is_free(self.runs_dir) for task in self.tasks)

    def _start(self, card: Card, filling: Filling) -> None:
        """Start a process, if there is a seat for it."""
        if self.children:
            seat = ExitStack()
            if self.takes_seats and not seat.enter_context(seats("core", self._threads)):
                return
            self.seats.append(seat)
        context = multiprocessing.get_context("spawn")
        connection, its_own = context.Pipe()
        minutes = None if self.ends is None else (self.ends - time.monotonic()) / 60
        process = context.Process(
            target=_be_child, args=(its_own, card, self.tasks, self.runs_dir, minutes, self.launch)
        )
        process.start()
        its_own.close()
        self.children.append(_Child(process, connection, filling.start()))

    def _hear(self, filling: Filling) -> bool:
        """Take in what the processes have said and which have ended; gives whether there is any news."""
        # In this order: who began a run beside one that has ended since must not be taken to have been alone.
        ended = [child for child in self.children if not child.process.is_alive()]
        num_heard = 0
        for child in self.children:
            for said in child.heard():
                num_heard += 1
                self._take_in(said, child, filling)
        for child in ended:
            filling.end(child.load)
            self.children.remove(child)
            if not child.has_reported:
                print(f"process {child.process.pid} of this worker ended early", file=sys.stderr)
                self.gives_up |= not child.load.has_begun
            child.connection.close()
        while len(self.seats) > max(len(self.children) - 1, 0):
            self.seats.pop().close()
        return bool(ended or num_heard)

    def _take_in(self, said: Any, child: _Child, filling: Filling) -> None:
        match said:
            case WorkerReport():
                child.has_reported = True
                self.report.done += said.done
                self.report.failed += said.failed
                self.report.seconds += said.seconds
                self.report.working_seconds += said.working_seconds
                self.report.problem = self.report.problem or said.problem
                self.gives_up |= bool(said.problem)
            case int(reserved):
                filling.step(child.load, reserved)
            case Word.BEGAN:
                filling.begin(child.load)
            case Word.OUT_OF_MEMORY:
                child.answer(filling.overflow(child.load))
            case _:
                raise AssertionError(f"a process says {said!r}")


def _be_child(
    parent: Connection, card: Card, tasks: list[Task], runs_dir: Path, minutes: float | None, launch: Path | None
) -> None:
    """Do tasks in a process of its own, and tell the parent."""
    asked_for = time.time()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Heard while it works; before and after that they must not kill it, for its report would be lost. The parent says
    # it again until it has ended.
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: None)
    os.environ["CUDA_VISIBLE_DEVICES"] = card.name  # before torch looks for GPUs
    kind = partial(_Sharing, parent=parent, its_card=card)
    _say(parent, work(tasks, runs_dir, None, minutes, launch, asked_for, takes_seats=False, kind=kind))


def _say(parent: Connection, what: Any) -> None:
    try:
        parent.send(what)
    except OSError:  # it is gone; that is no failure of a run
        os._exit(1)


def _end_with_parent() -> None:
    """End this process when its parent has ended, however that was, so that nothing trains that nobody looks after."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@dataclass
class _Sharing(Work):
    """What a process has before it that shares a GPU.

    Attributes:
        parent: hears when it begins a run, and what it has reserved after the first steps and whenever that has grown.
    """

    parent: Connection
    its_card: Card
    told: int | None = None

    def __post_init__(self) -> None:
        self.on_rows = self._tell_reserved

    def _tell_reserved(self, rows: list[dict[str, Any]]) -> None:
        if (reserved := self.its_card.reserved()) != self.told:
            self.told = reserved
            _say(self.parent, reserved)

    def do(self, task: Task, attempt: Attempt) -> None:
        self.told = None
        _say(self.parent, Word.BEGAN)
        super().do(task, attempt)

    def hands_back(self, failure: Failure) -> bool:
        """Out of memory while it shares the card; whether it does, the parent knows."""
        if failure.cause != "out of memory":
            return False
        _say(self.parent, Word.OUT_OF_MEMORY)
        return bool(self.parent.recv())
