"""Who may work on a run. Attempts are numbered folders; the highest number holds the run.

Claiming is the creation of the next ``attempts/NNNN``, which a file system lets one process do, so of many that try,
one gets it; no lock, no server, and nothing is ever deleted. A holder shows that it lives by touching its
``heartbeat``. When that is older than the grace time, or on this host when its process is gone, the next attempt may be
claimed. A holder that wakes after that finds a higher number and must not publish.
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
from types import TracebackType
from typing import Any, Self

from aimv2.errors import RunFailedError

HEARTBEAT_SECONDS = 10.0
GRACE_SECONDS = 90.0


class LeaseLostError(RunFailedError):
    """Another process took the run over; what this one has must not be published."""

    def __init__(self, folder: Path) -> None:
        super().__init__("lease lost", f"{folder} was taken over by a later attempt")


class Presence:
    """That this process is at work on something, told by files in a folder of its own: ``holder.json`` says who,
    ``heartbeat`` that it lives, ``released`` that it has ended in good order.

    As a context it beats until it is left.
    """

    def __init__(self, folder: Path, *, log: str = "") -> None:
        self.folder = folder
        (folder / "heartbeat").touch()
        (folder / "holder.json").write_text(json.dumps(_this_process() | {"log": log}))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.release()

    def release(self) -> None:
        """Say that it has ended. Where that cannot be written, silence says it after the grace time."""
        with contextlib.suppress(OSError):
            (self.folder / "released").touch()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # a full or absent disk may be back at the next beat
                (self.folder / "heartbeat").touch()


class Lease(Presence):
    """The right to work on one run, held from ``claim`` until it is released or the process dies.

    Attributes:
        folder: ``attempts/NNNN``, this attempt's own; nobody else writes there.
        number: NNNN.
    """

    def __init__(self, folder: Path, *, log: str = "") -> None:
        super().__init__(folder, log=log)
        self.number = int(folder.name)

    def check(self) -> None:
        """Raise LeaseLostError if a later attempt exists."""
        if latest_attempt(self.folder.parent.parent) != self.folder:
            raise LeaseLostError(self.folder)


def acquire(run_folder: Path, *, log: str = "") -> Lease | None:
    """Try to get the right to work on a run; None when another process has it, or was faster.

    Args:
        log: where what this process prints can be read.
    """
    latest = latest_attempt(run_folder)
    if latest is not None and is_held(latest, clock=file_system_time):
        return None
    number = 1 if latest is None else int(latest.name) + 1
    folder = run_folder / "attempts" / f"{number:04d}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return None
    return Lease(folder, log=log)


def latest_attempt(run_folder: Path) -> Path | None:
    """The attempt of the highest number, or None."""
    attempts = (path for path in (run_folder / "attempts").glob("*") if path.name.isdecimal())
    return max(attempts, key=lambda path: int(path.name), default=None)


Clock = Callable[[Path], float]


def host_time(folder: Path) -> float:
    """Now, by this host's clock."""
    return time.time()


def file_system_time(folder: Path) -> float:
    """Now, by the clock of the file system that also stamps the heartbeats; hosts' own clocks may differ."""
    probe = folder.parent / f".clock-{socket.gethostname()}-{os.getpid()}"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    return now


def is_held(folder: Path, clock: Clock = host_time) -> bool:
    """Whether the process that works in this folder is still there.

    Args:
        clock: this host's needs nothing to be written, and is good enough to look; who acts on it asks the file system.
    """
    if (folder / "released").exists():
        return False
    who = holder(folder)
    if who.get("host") == _host() and _is_gone(who):
        return False
    try:
        return clock(folder) - last_sign(folder) < GRACE_SECONDS
    except FileNotFoundError:  # the folder itself was deleted meanwhile
        return False


def holder(folder: Path) -> dict[str, Any]:
    """Who works there: ``host``, ``pid``, ``process_start``, ``claimed``, ``log``. Nothing while that is being written,
    or where it is broken: then the heartbeat alone decides."""
    try:
        found = json.loads((folder / "holder.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def last_sign(folder: Path) -> float:
    """When the process that works there last showed that it lives, by the file system's clock."""
    path = folder / "heartbeat"
    return (path if path.exists() else folder).stat().st_mtime


def _this_process() -> dict[str, Any]:
    return {
        "host": _host(),
        "pid": os.getpid(),
        "process_start": _process_start(os.getpid()),
        "claimed": time.time(),
    }


@lru_cache
def _host() -> str:
    """Where process numbers mean the same: this boot of this machine, and this container of it."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        name += "/" + Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        name += "/" + os.readlink("/proc/self/ns/pid")
    return name


def _is_gone(who: dict[str, Any]) -> bool:
    """Whether a process of this host has ended; its number may be another's by now."""
    pid = who.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False  # the heartbeat decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's, whom /proc may hide
    started = _process_start(pid)
    return started is not None and started != who.get("process_start")


def _process_start(pid: int) -> str | None:
    """When a process of this host started; ``ended`` for one that nobody has taken leave of, None if that cannot be
    seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, start = fields[0], fields[19]
    return "ended" if state in "ZX" else start
