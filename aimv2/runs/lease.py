"""Leases: the right to work on a run. Attempts are numbered folders, and the highest number holds the lease.

A process acquires the lease by creating the next ``attempts/NNNN``, which the file system lets only one process do. The
holder's heartbeat is a file that it makes longer again and again. The lease expires when another process has watched
the heartbeat for the grace period and it did not change, or at once when the holder is a process of this host that has
ended. No clock is compared with another one. A holder that wakes up later finds a higher number and must not publish.
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
from typing import Any, Literal, NamedTuple, Self

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import read_object

HEARTBEAT_SECONDS = 10.0
GRACE_SECONDS = 90.0  # after the last heartbeat, the same for all
Sight = Literal["alive", "unsure", "dead"]
NO_BEAT = (0, 0)


class LeaseLostError(RunFailedError):
    """Another process has acquired the run or published its result; this one must not publish."""


class Presence:
    """Files in a folder that show that this process works there: ``holder.json`` identifies it, ``heartbeat`` shows
    that it is alive while the context lasts, and ``released`` that it ended normally."""

    def __init__(self, folder: Path, *, log: str = "", beat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self.folder = folder
        self._beat_seconds = beat_seconds
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
        num_beats = 0
        while not self._stop.wait(self._beat_seconds):
            num_beats += 1
            with contextlib.suppress(OSError):  # an absent disk may be back at the next heartbeat
                os.truncate(self.folder / "heartbeat", num_beats)  # takes no space, so a full disk lets it pass


class Lease(Presence):
    """The right to work on one run, from ``acquire`` until it is released or the process dies. Only this attempt writes
    to its folder, ``attempts/NNNN``."""

    @property
    def number(self) -> int:
        return int(self.folder.name)

    def check(self, *, is_quick: bool = False) -> None:
        """Raise LeaseLostError if a later attempt or a result exists; a quick check does not look for the latter."""
        run = self.folder.parents[1]
        if attempt_folder(run, self.number + 1).exists() or (not is_quick and (run / "result.json").exists()):
            raise LeaseLostError("lease lost", f"{self.folder} was taken over by a later attempt")


class _Seen(NamedTuple):
    """What a watch knows of a heartbeat."""

    beat: tuple[int, int]  # as of ``_last_beat``
    looked_at: float
    silence: float  # seconds without a change, as far as they were watched
    has_changed: bool  # while it was watched
    process: dict[str, Any]  # the holder; empty until it can be read


class Watch:
    """Judges whether the processes behind heartbeats are alive, by the changes that this process has seen.

    A heartbeat that does not change for the grace period, by this process's own clock, is that of a dead process. The
    clocks of hosts and file systems differ, so a time of one is never compared with that of another. A third of the
    grace period is the most that one look can add: while a file server is away, nobody's heartbeat changes.
    ``doubts_processes``: a process of this host, which may be stopped, is ``unsure`` too until its heartbeat changes.
    """

    def __init__(
        self,
        grace_seconds: float = GRACE_SECONDS,
        now: Callable[[], float] = time.monotonic,
        *,
        doubts_processes: bool = False,
    ) -> None:
        self._doubts_processes = doubts_processes
        self._grace_seconds = grace_seconds
        self._now = now
        self._seen: dict[Path, _Seen] = {}

    def sees(self, folder: Path) -> Sight:
        """Return whether the process that works in the folder is alive; ``unsure`` while it was not watched enough."""
        if is_released(folder):
            return "dead"
        beat, now, before = _last_beat(folder), self._now(), self._seen.get(folder)
        if beat == NO_BEAT and not folder.exists():
            return "dead"
        if before is None:
            before = _Seen(beat, now, silence=0.0, has_changed=False, process={})
        elif beat != before.beat:
            is_longer = beat[0] > before.beat[0]  # otherwise the folder may have been made again
            process = before.process if is_longer else {}
            before = _Seen(beat, now, silence=0.0, has_changed=True, process=process)
        silence = before.silence + min(now - before.looked_at, self._grace_seconds / 3)
        process = before.process or holder(folder)
        self._seen[folder] = before._replace(looked_at=now, silence=silence, process=process)
        is_here = process.get("host") == _host()
        if (is_here and has_ended(process)) or silence >= self._grace_seconds:
            return "dead"
        return "alive" if before.has_changed or (is_here and not self._doubts_processes) else "unsure"


def acquire(
    run_folder: Path, *, log: str = "", watch: Watch | None = None, beat_seconds: float = HEARTBEAT_SECONDS
) -> Lease | None:
    """Acquire the lease on a run, or return None if another process may hold it or was faster. Unless ``watch`` has
    watched the run's latest attempt, its process must have certainly ended. ``log`` is the path of output."""
    latest = latest_attempt(run_folder)
    if latest is not None and (watch or Watch()).sees(latest) != "dead":
        return None
    number = 1 if latest is None else int(latest.name) + 1
    folder = attempt_folder(run_folder, number)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return None
    return Lease(folder, log=log, beat_seconds=beat_seconds)


def attempt_folder(run_folder: Path, number: int) -> Path:
    return run_folder / "attempts" / f"{number:04d}"


def is_released(folder: Path) -> bool:
    """True if the process that worked in this folder has ended normally."""
    return (folder / "released").exists()


def latest_attempt(run_folder: Path) -> Path | None:
    """Return the attempt with the highest number, or None."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        numbers = (name for name in os.listdir(run_folder / "attempts") if name.isdecimal())
        if latest := max(numbers, key=int, default=None):
            return run_folder / "attempts" / latest
    return None


def is_held(folder: Path) -> bool:
    """True if the process that works in this folder seems to be alive, for displays only: on another host it compares
    the file system's clock with this host's. Decisions need a ``Watch``."""
    if is_released(folder):
        return False
    process = holder(folder)
    if process.get("host") == _host():
        return not has_ended(process)
    try:
        return time.time() - last_heartbeat(folder) < GRACE_SECONDS
    except FileNotFoundError:  # the folder itself was deleted in the meantime
        return False


def holder(folder: Path) -> dict[str, Any]:
    """Return the process that works in the folder: ``host``, ``pid``, ``process_start``, ``claimed``, ``log``. It is
    empty while the file is being written or if it is broken; then the heartbeat alone decides."""
    with contextlib.suppress(UsageError):
        return read_object(folder / "holder.json")
    return {}


def last_heartbeat(folder: Path) -> float:
    """Return the time of the last heartbeat, by the file system's clock."""
    try:
        return (folder / "heartbeat").stat().st_mtime
    except FileNotFoundError:
        return folder.stat().st_mtime


def _last_beat(folder: Path) -> tuple[int, int]:
    """Return what the next heartbeat changes, the size and the time of the file; NO_BEAT without one."""
    try:
        with (folder / "heartbeat").open("rb") as file:  # NFS then asks the server, whatever it has cached
            status = os.fstat(file.fileno())
    except OSError:
        return NO_BEAT
    return status.st_size, status.st_mtime_ns


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
