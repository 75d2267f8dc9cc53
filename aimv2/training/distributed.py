"""Runs on several ranks: processes, started by rank 0 (``local_ranks``), torchrun or submitit, that each take a share
of every batch, and of the evaluation.

Rank 0 owns the run: it decides and records. It calls the other ranks to train and to evaluate one run after the other,
through the store at the launcher's MASTER_ADDR and MASTER_PORT, until it dismisses them. With ranks=1 none of this is
used.

A rank blocked in a collective keeps waiting, up to its time in TIMEOUTS, while the process of the missing rank has open
connections, and the traceback of an exception keeps them open. So a rank that fails writes its error to the store and
ends its process. If rank 0 fails, the others end theirs, because rank 0 still has to record the failure.
"""

import contextlib
import gc
import itertools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Literal, NamedTuple, NoReturn

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.run_config import RunConfig
from aimv2.memory.machine import oom_kills
from aimv2.runs.failure import cause_of, sentence_of
from aimv2.training.world import ALONE, World, is_of_all_ranks

Work = Literal["train", "evaluate"]
TIMEOUTS: dict[Work, timedelta] = {  # for a silent rank
    "train": timedelta(minutes=10),  # a held-out point or a checkpoint takes rank 0 less
    "evaluate": timedelta(hours=24),  # a probe on another rank may take hours
}
POLL_SECONDS = 0.2
ENDING_SECONDS = 5.0  # rank 0 waits so long for the others, because the store ends with it
GONE = "gone"  # the key of the store under which ranks that have ended are counted
GIVEN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # environment variables that the launcher sets


def is_launched() -> bool:
    """True if a launcher has started this process as one of its ranks."""
    return "WORLD_SIZE" in os.environ


def place(config: RunConfig) -> int:
    """Select this process's GPU, join the store, and return its rank."""
    started = os.environ.get("WORLD_SIZE", "1")
    if started != str(config.ranks):
        raise UsageError(
            f"ranks={config.ranks}, but WORLD_SIZE={started}: the launcher has to start a process for each rank"
            f" (torchrun --nproc-per-node {config.ranks})"
        )
    if config.ranks == 1:
        return 0
    if missing := [name for name in GIVEN if name not in os.environ]:
        raise UsageError(f"ranks={config.ranks}, but the launcher did not set {' and '.join(missing)}; use torchrun")
    rank = int(os.environ["RANK"])
    if config.device == "cuda":
        # Some launchers show each process all GPUs of its host, others only its own.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
    _store()
    return rank


def _store() -> Store:
    """Return the launcher's store once all ranks have joined."""
    return _store_at(os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"])


@lru_cache(maxsize=1)
def _store_at(address: str, port: str) -> Store:
    """Join the store that the environment names; cached, because its port can be opened only once."""
    store: Store = next(rendezvous("env://", timeout=TIMEOUTS["train"]))[0]
    return store


class Call(NamedTuple):
    """A run to which rank 0 calls the other ranks."""

    number: int  # of the call
    work: Work  # what they do
    config: RunConfig
    start: str | None  # the folder of the checkpoint from which the run resumes
    attempt: str | None  # the folder of the attempt, where all ranks save checkpoints; None saves none


@contextmanager
def leading(
    config: RunConfig,
    start: str | None = None,
    attempt: str | None = None,
    *,
    work: Work = "train",
) -> Iterator[World]:
    """Call the other ranks to a run, as rank 0, and work with them within the context."""
    if config.ranks == 1:
        yield ALONE
        return
    _check_none_is_gone()
    number = _call({"work": work, "config": config.to_dict(), "start": start, "attempt": attempt})
    _wait_for_answers(number, config.ranks)
    with joined(number, config, rank=0, work=work) as world:
        yield world


def _call(content: object) -> int:
    """Publish rank 0's next call, and return its number."""
    number = _store().add("calls", 1)
    _store().set(f"call/{number}", json.dumps(content))
    return number


def _wait_for_answers(number: int, ranks: int) -> None:
    """Wait until the other ranks have received a call. A process group would wait long for one that has ended."""
    deadline = time.monotonic() + TIMEOUTS["train"].total_seconds()
    while _store().add(f"answers/{number}", 0) < ranks - 1:
        _check_none_is_gone()
        if time.monotonic() > deadline:
            raise RunFailedError("node", f"another rank does not answer within {TIMEOUTS['train']}")
        time.sleep(POLL_SECONDS / 10)


def _check_none_is_gone() -> None:
    if _store().add(GONE, 0):
        raise RunFailedError("node", "another rank ended before the work began; start all ranks again")


def calls() -> Iterator[Call]:
    """Yield rank 0's calls (``leading``), until rank 0 dismisses this rank or ends."""
    store = _store()
    for number in itertools.count(1):
        try:
            while not store.check([f"call/{number}"]):
                time.sleep(POLL_SECONDS)
            call = json.loads(store.get(f"call/{number}"))
            if call is None:
                store.add(GONE, 1)
                return
            store.add(f"answers/{number}", 1)
        except dist.DistNetworkError:
            return
        yield Call(number, call["work"], RunConfig.from_dict(call["config"]), call["start"], call["attempt"])


def dismiss() -> None:
    """End the other ranks, as rank 0, after the last run."""
    _call(None)
    _wait_for_their_end()


@contextmanager
def joined(number: int, config: RunConfig, rank: int, *, work: Work = "train") -> Iterator[World]:
    """Work as one of the ranks within the context. On ranks other than 0 an error ends the process, unless all ranks
    have it."""
    store, timeout, kills = PrefixStore(f"run/{number}", _store()), TIMEOUTS[work], oom_kills()
    is_cuda = config.device == "cuda"
    dist.init_process_group(
        "nccl" if is_cuda else "gloo", store=store, rank=rank, world_size=config.ranks, timeout=timeout
    )
    # Ranks agree on stops through the hosts, which neither waits for the GPU nor spins.
    host = dist.new_group(backend="gloo", timeout=timeout) if is_cuda else None
    saving = dist.new_group(backend="gloo", timeout=timeout)
    is_left = threading.Event()
    if rank:
        threading.Thread(target=_end_with_the_others, args=(store, is_left), daemon=True).start()
    try:
        yield World(config.ranks, host, rank, saving)
    except BaseException as error:
        _clear_frames(error)
        if is_of_all_ranks(error):
            raise
        if rank and isinstance(error, Exception) and not _is_collective_error(error):
            traceback.print_exc()
        first = _ending_error(store, rank, error, kills)
        if rank:
            _end_process()
        if is_cuda and dist.group.WORLD is not None:
            dist.group.WORLD.abort()  # nccl would wait for ranks that no longer answer; not tested on GPUs
        _wait_for_their_end()
        if first is error:
            raise
        raise first from error
    finally:
        is_left.set()
        gc.collect()  # DistributedDataParallel is in reference cycles, and has to be freed before its group
        dist.destroy_process_group()


def _clear_frames(error: BaseException | None) -> None:
    """Let go of what the frames of the error and of those before it hold.

    The last reference to a gloo group may be DistributedDataParallel's. Freeing it then joins gloo's threads while it
    holds the GIL, for which such a thread waits if a collective was running: a deadlock (pytorch/pytorch#56297, seen
    with torch 2.13). Without this issue, neither this nor the collection of garbage above is needed.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _ending_error(store: Store, rank: int, error: BaseException, kills: int) -> BaseException:
    """Write the error to the store, and return the error that ended the run: another rank's if this one is of a
    collective.

    A rank whose collective fails is a survivor. Whichever of them is first reports a rank that ended without a message,
    and not itself.
    """
    is_survivor = _is_collective_error(error)
    own = RunFailedError("node", f"another rank ended without an error message: {sentence_of(error)}")
    reported = ["node", str(own)]
    if not is_survivor:
        reported = [cause_of(error, oom_kills=kills), f"rank {rank}: {sentence_of(error)}"]
    try:
        cause, message = json.loads(store.compare_set("ended", "", json.dumps(reported)))
    except RuntimeError:  # rank 0 has ended, and the store with it
        return error
    if not is_survivor:
        return error
    return KeyboardInterrupt() if cause == "time" else RunFailedError(cause, message)


def _is_collective_error(error: BaseException) -> bool:
    # gloo's errors have no type of their own, but name their source file.
    return isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo" in str(error))


def _end_with_the_others(store: Store, is_left: threading.Event) -> None:
    with contextlib.suppress(RuntimeError):  # rank 0 has ended
        while not store.check(["ended"]):
            if is_left.wait(1.0):
                return
    _end_process()


def _end_process() -> NoReturn:
    """End this process, whatever its threads wait for.

    The exit status is 0, because launchers end all processes when one fails, and rank 0 has to record the failure.
    """
    with contextlib.suppress(RuntimeError):
        _store().add(GONE, 1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _wait_for_their_end() -> None:
    """Wait for the other ranks to end, at most ENDING_SECONDS."""
    deadline = time.monotonic() + ENDING_SECONDS
    while _store().add(GONE, 0) < int(os.environ["WORLD_SIZE"]) - 1 and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS / 10)
