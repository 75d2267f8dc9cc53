"""Leases: the right to work on a run. Attempts are numbered folders, and the highest number holds the lease.

A process acquires the lease by creating the next ``attempts/NNNN``. The file system lets only one process create a
folder, so one of many gets the lease, without locks or a server. The lease expires when its heartbeat is older than the
grace period, or at once when the holder is a process of this host that has ended. A holder that wakes up later finds a
higher number and must not publish.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from aimv2.errors import RunFailedError

HEARTBEAT_SECONDS = 10.0
GRACE_SECONDS = 90.0


class Timing(NamedTuple):
    """Seconds between two heartbeats, and the grace period after the last one. All holders must agree on them."""

    heartbeat_seconds: float = HEARTBEAT_SECONDS
    grace_seconds: float = GRACE_SECONDS


TIMING = Timing()
Clock = Callable[[Path], float]


def host_time(folder: Path) -> float:
    """Return the time by this host's clock."""
    return time.time()


def file_system_time(folder: Path) -> float:
    """Return the time by the clock that stamps the heartbeats, the file system's; clocks of hosts may differ."""
    probe = folder.parent / f".clock-{socket.gethostname()}-{os.getpid()}"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    return now


class LeaseLostError(RunFailedError):
    """Another process has acquired the run; this one must not publish its result."""

    def __init__(self, folder: Path) -> None:
        super().__init__("lease lost", f"{folder} was taken over by a later attempt")


class Presence:
    """Files in a folder that show that this process works there.

    ``holder.json`` identifies the process, ``heartbeat`` shows that it is alive, and ``released`` that it ended
    normally. As a context it touches the heartbeat until the context is left.
    """

    def __init__(self, folder: Path, *, log: str = "", timing: Timing = TIMING) -> None:
        self.folder = folder
        self._heartbeat_seconds = timing.heartbeat_seconds
        (folder / "heartbeat").touch()
        process = {"host": _host(), "pid": os.getpid(), "process_start": process_start(os.getpid())}
        (folder / "holder.json").write_text(json.dumps(process | {"claimed": time.time(), "log": log}))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.release()

    def release(self) -> None:
        """Show that the process has ended here. If that cannot be written, the grace period does it."""
        with contextlib.suppress(OSError):
            (self.folder / "released").touch()

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat_seconds):
            with contextlib.suppress(OSError):  # a full or absent disk may be back at the next heartbeat
                (self.folder / "heartbeat").touch()


class Lease(Presence):
    """The right to work on one run, from ``acquire`` until it is released or the process dies.

    Its folder is ``attempts/NNNN``, to which only this attempt writes.
    """

    @property
    def number(self) -> int:
        return int(self.folder.name)

    def check(self) -> None:
        """Raise LeaseLostError if a later attempt exists."""
        if latest_attempt(self.folder.parent.parent) != self.folder:
            raise LeaseLostError(self.folder)


def acquire(
    run_folder: Path, *, log: str = "", clock: Clock = file_system_time, timing: Timing = TIMING
) -> Lease | None:
    """Acquire the lease on a run, or return None if another process holds it or was faster.

    Args:
        log: path of this process's output, recorded for the user.
    """
    latest = latest_attempt(run_folder)
    if latest is not None and is_held(latest, clock, timing):
        return None
    number = 1 if latest is None else int(latest.name) + 1
    folder = run_folder / "attempts" / f"{number:04d}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return None
    return Lease(folder, log=log, timing=timing)


def latest_attempt(run_folder: Path) -> Path | None:
    """Return the attempt with the highest number, or None."""
    attempts = (path for path in (run_folder / "attempts").glob("*") if path.name.isdecimal())
    return max(attempts, key=lambda path: int(path.name), default=None)


def is_held(folder: Path, clock: Clock = host_time, timing: Timing = TIMING) -> bool:
    """True if the process that works in this folder is alive.

    Args:
        clock: ``host_time`` writes nothing and is good enough for a display. A decision needs ``file_system_time``.
    """
    if (folder / "released").exists():
        return False
    process = holder(folder)
    if process.get("host") == _host() and has_ended(process):
        return False
    try:
        return clock(folder) - last_heartbeat(folder) < timing.grace_seconds
    except FileNotFoundError:  # the folder itself was deleted in the meantime
        return False


def holder(folder: Path) -> dict[str, Any]:
    """Return the process that works in the folder: ``host``, ``pid``, ``process_start``, ``claimed``, ``log``.

    The result is empty while the file is being written or if it is broken; then the heartbeat alone decides.
    """
    try:
        found = json.loads((folder / "holder.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def last_heartbeat(folder: Path) -> float:
    """Return the time of the last heartbeat, by the file system's clock."""
    path = folder / "heartbeat"
    return (path if path.exists() else folder).stat().st_mtime


@lru_cache
def _host() -> str:
    """Return the scope in which process ids are unique: this boot of this machine, and this container on it."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        name += "/" + Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        name += "/" + os.readlink("/proc/self/ns/pid")
    return name


def process_start(pid: int) -> str | None:
    """Return the start time of a process of this host, ``ended`` for a zombie, or None if that cannot be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, start = fields[0], fields[19]
    return "ended" if state in "ZX" else start


def has_ended(process: dict[str, Any], start_of: Callable[[int], str | None] = process_start) -> bool:
    """True if a process of this host has ended, even if its id was given to another one since."""
    pid = process.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False  # the heartbeat decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it belongs to another user, and /proc may hide it
    started = start_of(pid)
    return started is not None and started != process.get("process_start")
