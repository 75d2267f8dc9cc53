"""Several ranks for one run: processes that each train on a share of every batch, as torchrun or submitit starts them.

Rank 0 has the run: it decides, records and evaluates. It calls the others to the training of one run after the other,
through the store that the launcher's MASTER_ADDR and MASTER_PORT lead to, until it dismisses them. A config with
ranks=1 touches nothing of this.

Who waits for a rank in a collective goes on waiting, up to TIMEOUT, for as long as that rank's process has its
connections, and an exception's traceback keeps those. So a rank that cannot go on leaves word of why and ends its
process; where it is rank 0, which has the failure to record, the others end theirs.
"""

import contextlib
import itertools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from typing import NamedTuple, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store, _abort_process_group
from torch.distributed.rendezvous import rendezvous

from aimv2.config.run_config import RunConfig, from_dict, to_dict
from aimv2.errors import RunFailedError, UsageError
from aimv2.runs.failure import cause_of, sentence_of

TIMEOUT = timedelta(minutes=10)  # of a rank that says nothing; a held-out point or a checkpoint takes rank 0 less
POLL_SECONDS = 0.2
ENDING_SECONDS = 5.0  # that rank 0 gives the others, before it ends and the store with it
BUCKET_BYTES = 25 * 2**20  # as DistributedDataParallel's
GIVEN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by the launcher


@dataclass(frozen=True)
class World:
    """The ranks of a run and what they do together, which all must do in the same order.

    Attributes:
        host: the group for tensors on the CPU, where that is not the default one.
    """

    rank: int = 0
    size: int = 1
    host: dist.ProcessGroup | None = None

    def any(self, here: bool) -> bool:
        """Whether it is so on some rank."""
        if self.size == 1:
            return here
        flag = torch.tensor(int(here))
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.host)
        return bool(flag)

    def mean(self, value: Tensor) -> Tensor:
        """Over the ranks, without gradients."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total, group=self.host if total.device.type == "cpu" else None)
        return total / self.size

    def replicate(self, model: nn.Module) -> Callable[[], None]:
        """Give every rank rank 0's weights; hosts may differ in the last bit of a random draw.

        Returns:
            what makes each gradient the mean over the ranks; to be called after every backward pass.
        """
        if self.size == 1:
            return lambda: None
        for value in model.state_dict().values():
            dist.broadcast(value, src=0)
        return _GradientMean(list(model.parameters()), self.size).finish


ALONE = World()


class _GradientMean:
    """Sends gradients off in buckets while the backward pass goes on, the last layers' first.

    DistributedDataParallel does that, but for one ``forward``, and losses call the parts of a model; and where an
    exception keeps it beyond its process group, freeing it waits for gloo's threads for ever (torch 2.13).
    """

    def __init__(self, parameters: list[nn.Parameter], ranks: int) -> None:
        self._ranks = ranks
        self._sizes: list[int] = []  # parameters of each bucket
        free = 0
        for parameter in reversed(parameters):
            if free <= 0:
                self._sizes.append(0)
                free = BUCKET_BYTES
            parameter.register_post_accumulate_grad_hook(partial(self._arrive, len(self._sizes) - 1, self._sizes[-1]))
            self._sizes[-1] += 1
            free -= parameter.numel() * parameter.element_size()
        self._begin()

    def _begin(self) -> None:
        self._arrived: list[dict[int, Tensor]] = [{} for _ in self._sizes]
        self._sent: list[tuple[list[Tensor], Tensor, dist.Work]] = []
        self._next = 0

    def _arrive(self, bucket: int, place: int, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._arrived[bucket][place] = parameter.grad
        # One bucket after the other, which is the same on all ranks whatever order autograd takes.
        while self._next < len(self._sizes) and len(self._arrived[self._next]) == self._sizes[self._next]:
            self._send()

    def _send(self) -> None:
        arrived = self._arrived[self._next]
        self._next += 1
        if arrived:
            gradients = [arrived[place] for place in sorted(arrived)]
            flat = torch.cat([gradient.flatten() for gradient in gradients]) / self._ranks
            self._sent.append((gradients, flat, dist.all_reduce(flat, async_op=True)))

    def finish(self) -> None:
        """Send the rest and wait for all. What a batch gives no gradient it gives none on any rank, and that stays."""
        while self._next < len(self._sizes):
            self._send()
        for gradients, flat, work in self._sent:
            work.wait()
            for gradient, mean in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))
        self._begin()


class Call(NamedTuple):
    """A run that rank 0 calls the others to.

    Attributes:
        start: the folder of the attempt whose checkpoint it goes on from.
    """

    number: int
    config: RunConfig
    start: str | None


def place(config: RunConfig) -> int:
    """Take this process's place among the ranks, its GPU too, and give its rank.

    Raises:
        UsageError: the launcher started another number of processes, or does not say what it should.
    """
    started = os.environ.get("WORLD_SIZE", "1")
    if started != str(config.ranks):
        raise UsageError(
            f"ranks={config.ranks} and the number of processes that were started (WORLD_SIZE), {started}, differ; it"
            f" takes: torchrun --nproc-per-node {config.ranks} -m aimv2 train ranks={config.ranks}"
        )
    if config.ranks == 1:
        return 0
    if missing := [name for name in GIVEN if name not in os.environ]:
        raise UsageError(f"ranks={config.ranks} and the launcher has not set {' and '.join(missing)} for its processes")
    rank = int(os.environ["RANK"])
    if config.device == "cuda":
        # Some launchers show every process all GPUs of its host, some only its own.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
    _store()
    return rank


@lru_cache
def _store() -> Store:
    """The launcher's, once all ranks are there; kept, since a second one could not open the same port."""
    store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    return store


_number = itertools.count()  # of rank 0's calls


@contextmanager
def leading(config: RunConfig, start: str | None) -> Iterator[World]:
    """Rank 0 calls the others to a run (``Call``), and is together with them in the context.

    Raises:
        RunFailedError: another rank could not go on; the message says which and why.
        KeyboardInterrupt: another rank was told to stop.
    """
    if config.ranks == 1:
        yield ALONE
        return
    if _num_gone():
        raise RunFailedError("node", "the other ranks ended with an earlier run; start them anew")
    number = next(_number)
    _store().set(f"call/{number}", json.dumps({"config": to_dict(config), "start": start}))
    with joined(number, config, rank=0) as world:
        yield world


def calls() -> Iterator[Call]:
    """Rank 0's calls, for the others, until it dismisses them or is gone."""
    store = _store()
    for number in itertools.count():
        try:
            while not store.check([f"call/{number}"]):
                time.sleep(POLL_SECONDS)
            call = json.loads(store.get(f"call/{number}"))
            if call is None:
                store.add("gone", 1)
                return
        except dist.DistNetworkError:
            return
        yield Call(number, from_dict(call["config"]), call["start"])


def dismiss() -> None:
    """Rank 0 has no more runs for the others."""
    _store().set(f"call/{next(_number)}", "null")
    _see_them_end()


@contextmanager
def joined(number: int, config: RunConfig, rank: int) -> Iterator[World]:
    """Be one of the ranks of a call's run. On other ranks than 0 an error, unless all have it, ends the process."""
    store = PrefixStore(f"run/{number}", _store())
    is_cuda = config.device == "cuda"
    dist.init_process_group(
        "nccl" if is_cuda else "gloo", store=store, rank=rank, world_size=config.ranks, timeout=TIMEOUT
    )
    # What ranks agree on between steps goes from host to host: the GPU is not waited for, and waiting does not spin.
    host = dist.new_group(backend="gloo", timeout=TIMEOUT) if is_cuda else None
    leave, is_left = dist.destroy_process_group, threading.Event()
    if rank:
        threading.Thread(target=_end_when_another_does, args=(store, is_left), daemon=True).start()
    try:
        yield World(rank, config.ranks, host)
    except BaseException as error:
        if isinstance(error, RunFailedError) and error.cause == "not finite":
            raise  # all ranks have read back the same values
        if rank:
            if isinstance(error, Exception) and not _is_of_a_collective(error):
                traceback.print_exc()
            _first_to_end(store, rank, error)
            _end_process()
        if is_cuda:
            leave = _abort_process_group  # nccl would wait for what the others do not answer any more; never run yet
        first = _first_to_end(store, rank, error)
        _see_them_end()
        if first is error:
            raise
        raise first from error
    finally:
        is_left.set()
        leave()


def _first_to_end(store: Store, rank: int, error: BaseException) -> BaseException:
    """Leave word of the error, and give what ended the run: it or, if it only says that a rank is gone, that rank's."""
    word = json.dumps([rank, cause_of(error), sentence_of(error)])
    try:
        first, cause, sentence = json.loads(store.compare_set("ended", "", word))
    except RuntimeError:  # rank 0 is gone, and the store with it
        return error
    if not _is_of_a_collective(error):
        return error
    if first == rank:
        return RunFailedError("node", f"another rank is gone without a word: {sentence}")
    return KeyboardInterrupt() if cause == "time" else RunFailedError(cause, f"rank {first}: {sentence}")


def _is_of_a_collective(error: BaseException) -> bool:
    # gloo's errors have no type of their own, but begin with the source file that they are from.
    return isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo" in str(error))


def _end_when_another_does(store: Store, is_left: threading.Event) -> None:
    while not is_left.wait(1.0):
        try:
            is_over = store.check(["ended"])
        except RuntimeError:  # rank 0 is gone
            is_over = True
        if is_over:
            _end_process()


def _end_process() -> NoReturn:
    """End this process whatever its threads wait for. Its status is 0, for launchers end all processes at the first
    that fails, and rank 0 has to record the failure: what the ranks come to is in its status."""
    with contextlib.suppress(RuntimeError):
        _store().add("gone", 1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _num_gone() -> int:
    return _store().add("gone", 0)


def _see_them_end() -> None:
    """Give the other ranks time to."""
    deadline = time.monotonic() + ENDING_SECONDS
    while _num_gone() < int(os.environ["WORLD_SIZE"]) - 1 and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 10)
