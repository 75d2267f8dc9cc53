"""A GPU's memory: how much is in use, and whether there is room for one more process."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from aimv2.errors import UsageError
from aimv2.runs.interrupt import SIGNALS
from sweeps.machine.room import num_gpus

MARGIN = 1.1  # of what a run was seen to take: evaluation has its own peak, and memory is given out in blocks
TIMEOUT_SECONDS = 60.0  # of nvidia-smi


class Card(Protocol):
    """A GPU.

    Attributes:
        name: what CUDA_VISIBLE_DEVICES calls it.
    """

    name: str

    def memory(self) -> tuple[int, int]:
        """Bytes in use, by whomever, and bytes in all.

        Raises:
            UsageError: it does not say.
        """

    def reserved(self) -> int:
        """Bytes that the asking process's torch has held at its peak."""


class NvidiaCard:
    """A GPU as nvidia-smi sees it.

    Args:
        gpu: its number among those that CUDA_VISIBLE_DEVICES shows this process. CUDA and nvidia-smi may count in
            another order, so it goes by its UUID.
    """

    def __init__(self, gpu: int) -> None:
        import torch

        if gpu >= num_gpus():
            raise UsageError("executor.share_gpu=true and torch sees no CUDA device where the worker runs")
        self.name = f"GPU-{torch.cuda.get_device_properties(gpu).uuid}"

    def memory(self) -> tuple[int, int]:
        # Not memory.used: it leaves out what the driver keeps to itself.
        command = ("nvidia-smi", f"--id={self.name}", "--query-gpu=memory.free,memory.total")
        try:
            with _blocked_signals():  # a scheduler signals all processes of a job, and this one should answer first
                done = subprocess.run(
                    (*command, "--format=csv,noheader,nounits"),
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT_SECONDS,
                    check=True,
                )
            free, total = (int(part) * 2**20 for part in done.stdout.split(","))
        except FileNotFoundError as error:
            raise UsageError("executor.share_gpu=true needs nvidia-smi, and there is none on PATH") from error
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"nvidia-smi did not answer within {TIMEOUT_SECONDS:.0f} s") from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip() or error.stdout.strip() or "nothing").splitlines()[-1]
            raise UsageError(f"nvidia-smi cannot say how much memory of {self.name} is free: {said}") from error
        except ValueError as error:
            raise UsageError(
                f"nvidia-smi says {done.stdout.strip()!r} of the memory of {self.name}, which is not free and total MiB"
            ) from error
        return total - free, total

    def reserved(self) -> int:
        import torch

        return torch.cuda.max_memory_reserved()


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Hold back the signals that ask to stop, from processes started here for good and from this one for a moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(eq=False)
class Load:
    """A process on the card.

    Attributes:
        together: processes that were there at once, at most, since it began the run that it is at.
        has_begun: a run, ever.
        has_stepped: has done the first steps of the run that it is at.
        reserved: bytes that its torch has held at its peak.
    """

    together: int = 0
    has_begun: bool = False
    has_stepped: bool = False
    reserved: int = 0


@dataclass
class Filling:
    """Whether a card has room for one more process, from what is known of those that are there.

    Attributes:
        total: bytes of the card.
        before: bytes in use before the first process.
        most: processes at once, at most.
        needed: bytes that a process was seen to take, at most.
    """

    total: int
    before: int
    most: int
    needed: float = 0.0
    loads: list[Load] = field(default_factory=list)

    def start(self) -> Load:
        """One more is there."""
        load = Load()
        self.loads.append(load)
        for one in self.loads:
            one.together = max(one.together, len(self.loads))
        return load

    def begin(self, load: Load) -> None:
        """It has begun a run."""
        load.has_begun, load.has_stepped, load.together = True, False, len(self.loads)

    def step(self, load: Load, reserved: int) -> None:
        """It has done steps of its run."""
        load.has_stepped, load.reserved = True, reserved

    def overflow(self, load: Load) -> bool:
        """It is out of memory; gives whether others were there since it began its run, so that this need not be the
        run's fault. Then there will never again be as many as there were."""
        if load.together == 1:
            return False
        self.most = min(self.most, load.together - 1)
        return True

    def end(self, load: Load) -> None:
        """It is gone."""
        self.loads.remove(load)

    def takes_another(self, used: Callable[[], int]) -> bool:
        """Whether one more fits, as large as the largest so far; the first one always does.

        Args:
            used: bytes in use now; asked only when all have done the first steps of their runs, and may be more.
        """
        if not self.loads:
            return True
        if len(self.loads) >= self.most or not all(load.has_stepped for load in self.loads):
            return False
        in_use = used()
        # CUDA itself takes memory too, about as much for each process, which torch does not count.
        reserved = [load.reserved for load in self.loads]
        uncounted = max(in_use - self.before - sum(reserved), 0) / len(reserved)
        self.needed = max(self.needed, max(reserved) + uncounted)
        return in_use + MARGIN * self.needed <= self.total
