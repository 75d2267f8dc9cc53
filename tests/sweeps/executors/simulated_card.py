"""A GPU that is a folder, for processes that train on the CPU; a module of its own, for they have to import it.

What a process has of it is a file, which the process keeps locked, so it is free again when the process ends, however
it ends. A training step takes a byte for each image of its batch and keeps its peak, as torch does; what does not fit
raises torch's error.
"""

import fcntl
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from aimv2.model.encoder_decoder import EncoderDecoder

TIMEOUT_SECONDS = 60.0


def nothing_more(card, step, images):
    """A training step takes its memory, and that is all."""


def broken(card, step, images):
    """A process that is to have it dies before it begins."""


@dataclass
class SimulatedCard:
    """
    Attributes:
        total: bytes.
        before: bytes of them that others have.
        scenario: called in each training step, with its number in the attempt and the images of its batch.
    """

    folder: Path
    total: int
    before: int = 0
    scenario: object = nothing_more
    name: str = "GPU-simulated"
    _locked: list = field(default_factory=list)
    _step: tuple = (None, 0)

    def __setstate__(self, state):
        """Has come to a process that trains."""
        self.__dict__ |= state
        self.mark(f"started-{os.getpid()}")
        assert self.scenario is not broken
        register_module_forward_pre_hook(self._forward)

    def memory(self):
        held = self.held()
        self.mark(f"looked-at-{len(held)}")
        return self.before + sum(held.values()), self.total

    def reserved(self):
        return self.held().get(os.getpid(), 0)

    def _forward(self, module, args):
        if isinstance(module, EncoderDecoder) and module.training:
            assert os.environ["CUDA_VISIBLE_DEVICES"] == self.name
            of, step = self._step
            self._step = (module, step + 1 if of is module else 1)
            self.take(len(args[0]))
            self.scenario(self, self._step[1], len(args[0]))

    def take(self, wanted):
        """Have so many bytes, if there are not more already."""
        with self._mutex():
            held = self._held()
            own = held.pop(os.getpid(), 0)
            if self.before + sum(held.values()) + max(wanted, own) > self.total:
                self.mark(f"overflow-{os.getpid()}")
                raise torch.OutOfMemoryError("CUDA out of memory, simulated")
            file = (self.folder / f"memory-{os.getpid()}").open("a+")
            if not self._locked:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._locked.append(file)
            file.truncate(0)
            file.write(str(max(wanted, own)))
            file.flush()

    def held(self):
        """Bytes by the processes that have them."""
        with self._mutex():
            return self._held()

    def _held(self):
        held = {}
        for path in self.folder.glob("memory-*"):
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    held[int(path.name.removeprefix("memory-"))] = int(file.read())
        return held

    @contextmanager
    def _mutex(self):
        with (self.folder / "mutex").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def mark(self, what):
        (self.folder / what).touch()

    def marks(self, what):
        """How many marks begin so."""
        return len(list(self.folder.glob(f"{what}*")))

    def wait(self, until):
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not until():
            assert time.monotonic() < deadline, "what the scenario waits for did not happen"
            time.sleep(0.01)

    def wait_for_look(self, at):
        """Until the parent has asked for the memory while so many processes had some."""
        self.wait(lambda: self.marks(f"looked-at-{at}"))


def small_and_larger(card, step, images):
    """The run of 4 images ends when the one of 8 is there; that waits until another was too large, and is gone."""
    if step == 2 and images == 4:
        card.wait_for_look(at=2)
    if step == 2 and images == 8:
        card.wait(lambda: card.marks("overflow") and len(card.held()) == 1)


def signal_parent(card, step, images):
    """Two runs without an end; the one of 8 images tells the parent to stop."""
    time.sleep(0.01)
    if step == 2:
        card.wait_for_look(at=2)
        if images == 8:
            os.kill(os.getppid(), signal.SIGUSR2)


def signal_all(card, step, images):
    """One run without an end tells itself and the parent."""
    time.sleep(0.01)
    if step == 2:
        for pid in (os.getpid(), os.getppid()):
            os.kill(pid, signal.SIGUSR2)


def die_once(card, step, images):
    """The first process does, once the parent has seen how much room there is."""
    if step == 2 and not card.marks("died"):
        card.wait_for_look(at=1)
        card.mark("died")
        os.kill(os.getpid(), signal.SIGKILL)


def endless(card, step, images):
    time.sleep(0.01)
    if step == 2:
        card.mark("stepped")
