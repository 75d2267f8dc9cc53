"""The ranks of a run on this machine, where no launcher has started them: this process is rank 0 and starts the others.

A terminal sends Ctrl-C and its end to all processes. Only rank 0 acts on them, and the others stop with it. They end
when rank 0 does, however it ends.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, but not in __all__

from aimv2.base.errors import UsageError
from aimv2.base.interrupt import Interrupts
from aimv2.base.processes import end_with_parent
from aimv2.config.run_config import RunConfig
from aimv2.training.distributed import ENDING_SECONDS, GONE, dismiss, is_launched

OF_TERMINAL = (signal.SIGINT, signal.SIGHUP)
HERE = "127.0.0.1"
INTERRUPTED = 130  # exit status of a rank that was interrupted between two runs


def check_gpus(config: RunConfig) -> None:
    """Refuse ranks that are started here, if this machine has fewer GPUs."""
    if config.ranks == 1 or config.device == "cpu" or is_launched():
        return
    if (found := torch.cuda.device_count()) < config.ranks:
        raise UsageError(f"ranks={config.ranks} needs {config.ranks} GPUs, and this machine has {found}")


@contextmanager
def local_ranks(config: RunConfig, follow: Callable[[Interrupts], object], gpus: Sequence[int] = ()) -> Iterator[None]:
    """Be rank 0 within the context, and start the other ranks, unless there are none or a launcher has started them."""
    if config.ranks == 1 or is_launched():
        yield
        return
    listener = socket.create_server((HERE, 0))  # on a free port, which other hosts cannot reach
    port = listener.getsockname()[1]
    store = TCPStore(HERE, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    given = {
        "WORLD_SIZE": str(config.ranks),
        "LOCAL_WORLD_SIZE": str(config.ranks),
        "MASTER_ADDR": HERE,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": str(True),  # to all ranks, the store is the launcher's
        **_loopback(),
    }
    places = gpus or range(config.ranks)
    own = [{"RANK": str(rank), "LOCAL_RANK": str(place)} for rank, place in enumerate(places)]
    context = multiprocessing.get_context("spawn")  # CUDA cannot be used in a forked process
    processes = [context.Process(target=_as_rank, args=(follow, one)) for one in own[1:]]
    with _environment({**given, **own[0]}):
        try:
            with _without_terminal():
                for process in processes:
                    process.start()
            threading.Thread(target=_count_dead, args=(processes, store), daemon=True).start()
            yield
        finally:
            _end([process for process in processes if process.pid is not None])


def _as_rank(follow: Callable[[Interrupts], object], given: Mapping[str, str]) -> None:
    end_with_parent()
    os.environ.update(given)
    try:
        with Interrupts().listening() as interrupts:
            follow(interrupts)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@contextmanager
def _without_terminal() -> Iterator[None]:
    """Have processes that are started within the context receive no signal of the terminal."""
    resource_tracker.ensure_running()  # multiprocessing would start it later, and unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _count_dead(processes: Sequence[SpawnProcess], store: TCPStore) -> None:
    """Count as gone the ranks that could not do so themselves, as killed ones; return when all have ended."""
    running = list(processes)
    while running:
        ended = connection.wait([process.sentinel for process in running])
        for process in [one for one in running if one.sentinel in ended]:
            running.remove(process)
            process.join()
            if process.exitcode:
                store.add(GONE, 1)


def _end(processes: Sequence[SpawnProcess]) -> None:
    """Dismiss ranks, and kill those that do not end, as one that waits for a rank that was killed."""
    if any(process.is_alive() for process in processes):
        dismiss()
    deadline = time.monotonic() + ENDING_SECONDS
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
        process.kill()


def _loopback() -> dict[str, str]:
    """Return the variable that has gloo use no network but this machine's own, unless the user has set it."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    return {} if not names or "GLOO_SOCKET_IFNAME" in os.environ else {"GLOO_SOCKET_IFNAME": names[0]}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
