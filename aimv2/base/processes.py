"""Tasks in parallel processes, which end with this one, and in threads."""

import multiprocessing
import os
import signal
import sysconfig
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from aimv2.base.errors import RunFailedError

IN_FLIGHT = 4  # tasks per process that are submitted at a time

Given = TypeVar("Given")
Found = TypeVar("Found")


def imports_from(folder: Path) -> dict[str, str]:
    """Return the environment variables of a Python process that imports our package from this folder, whatever is
    installed or lies in the current folder."""
    # Where pip installed it, the path has it already; at its front, packages would hide modules of Python.
    own = "" if str(folder) == sysconfig.get_path("purelib") else str(folder)
    path = os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")]))
    return {"PYTHONSAFEPATH": "1"} | ({"PYTHONPATH": path} if path else {})


def in_processes(call: Callable[[Given], Found], tasks: Iterable[Given], workers: int, purpose: str) -> Iterator[Found]:
    """Yield the results of tasks, in order."""
    if workers <= 1:
        yield from map(call, tasks)
        return
    # Spawned, because rich draws progress in a thread, and a process with threads must not be forked.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (call,)) as pool:
        try:
            yield from _in_order(lambda task: pool.submit(_call_here, task), tasks, IN_FLIGHT * workers)
        except BrokenProcessPool as error:
            message = f"a process that {purpose} was killed, most likely for lack of memory; fewer workers need less"
            raise RunFailedError("node", message) from error


def in_threads(call: Callable[[Given], Found], tasks: Iterable[Given], threads: int) -> Iterator[Found]:
    """Yield the results of tasks that wait for others, in order."""
    if threads <= 1:
        yield from map(call, tasks)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(lambda task: pool.submit(call, task), tasks, IN_FLIGHT * threads)


def _in_order(
    submit: Callable[[Given], Future[Found]], tasks: Iterable[Given], most: int
) -> Generator[Found, None, None]:
    """Submit tasks, at most so many at a time, and yield their results in order."""
    waiting: deque[Future[Found]] = deque()
    try:
        for task in tasks:
            waiting.append(submit(task))
            if len(waiting) == most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


_here: Callable[[Any], Any] | None = None  # of a process of the pool


def _start(call: Callable[[Any], Any]) -> None:
    """Set up a process: it leaves interrupts to its parent, and ends when that ends."""
    global _here
    _here = call
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """Have this process, which multiprocessing started, end when its parent ends, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only processes that multiprocessing started call this"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _call_here(task: Any) -> Any:
    assert _here is not None, "the pool sets up its processes"
    return _here(task)
