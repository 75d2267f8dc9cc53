"""The processes that hold slots of this machine, for displays."""

import fcntl
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

NAMES = ("core-*", "gpu-*")
MAX_SHOWN = 4  # processes of one launch and runs folder


class Holder(NamedTuple):
    """A process that holds a slot.

    Attributes:
        resource: ``core``, ``GPU`` or ``GPU share``.
        pid: 0 if it is not known.
        work: what it works on, in words; empty if it is not known.
    """

    resource: str
    pid: int
    work: str


def slots_folder() -> Path:
    """Return the folder of this user's slots, which may not exist yet."""
    return Path(tempfile.gettempdir()) / f"aimv2-slots-{os.getuid()}"


def sign(file: IO[str], work: str) -> None:
    """Write into the locked file of a slot that this process holds it, for ``work``."""
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid(), "work": work}))
    file.flush()


def holders() -> list[Holder]:
    """Return the holder of each core, GPU and share of a GPU that another process holds."""
    found = []
    for path in sorted(path for name in NAMES for path in slots_folder().glob(name)):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, like the locks for shares of a GPU
            except BlockingIOError:
                found.append(_holder(path.name, file.read()))
    return [one for one in found if one.pid != os.getpid()]


def in_use(found: Iterable[Holder]) -> str:
    """Return in words what is in use and by which processes; empty if nothing is."""
    by_work: dict[str, list[Holder]] = {}
    for one in found:
        by_work.setdefault(one.work, []).append(one)
    return "; ".join(f"{_amounts(some)} by {_processes(work, some)}" for work, some in by_work.items())


def _holder(name: str, text: str) -> Holder:
    """Return the holder of a slot from its file. It is empty if an older version holds the slot; while a process takes
    it, the file is empty too, or still names the process before."""
    resource = "core" if name.startswith("core") else "GPU share" if "share" in name else "GPU"
    try:
        about = json.loads(text)
        return Holder(resource, int(about["pid"]), str(about["work"]))
    except (ValueError, KeyError, TypeError):
        return Holder(resource, 0, "")


def _amounts(some: Iterable[Holder]) -> str:
    counts = Counter(one.resource for one in some)
    return " and ".join(f"{count} {resource}{'s' * (count > 1)}" for resource, count in counts.items())


def _processes(work: str, some: Iterable[Holder]) -> str:
    pids = [str(pid) for pid in dict.fromkeys(one.pid for one in some) if pid]
    if not pids:
        return work or "unknown processes"
    shown = ", ".join(pids[:MAX_SHOWN]) + f" and {len(pids) - MAX_SHOWN} more" * (len(pids) > MAX_SHOWN)
    named = f"process{'es' * (len(pids) > 1)} {shown}"
    return f"{work} ({named})" if work else named
