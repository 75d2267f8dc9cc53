"""Limits of this process's control groups, which containers and SLURM jobs with ``--mem`` set, and what they kill.

Both versions of Linux's interface are read; without either there is no limit. A group's limit binds the groups within
it, so the smallest limit of a group and all its parents counts.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

UNLIMITED = 1 << 60  # bytes; version 1 writes "no limit" as the largest multiple of a page


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes that the group may use; None without a limit.

    Args:
        root: file system that holds ``proc`` and ``sys``.
    """
    return min((limit for _, limit in _memory_groups(root)), default=None)


def memory_left(root: Path = Path("/")) -> int | None:
    """Return the bytes that the group may still allocate; None without a limit. The kernel's cache of files counts as
    free."""
    left = []
    for folder, limit in _memory_groups(root):
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        values = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
        cached = int(values.get("total_inactive_file", values.get("inactive_file", 0)))  # not used lately
        left.append(max(limit - used + cached, 0))
    return min(left, default=None)


def oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes of the group the kernel has killed so far because memory ran out.

    Where no group counts them, those of the whole machine count; the result is 0 if nothing does.
    """
    files = [folder / name for folder in _groups(root, "memory") for name in ("memory.events", "memory.oom_control")]
    for path in (*files, root / "proc/vmstat"):
        counts = dict(line.split() for line in _text(path).splitlines())
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return 0


def cores(root: Path = Path("/")) -> float | None:
    """Return the number of cores whose time the group may use; None without a limit."""
    found = []
    for folder in _groups(root, "cpu"):
        # Quota and period; without a limit, the quota is "max" in version 2 and -1 in version 1.
        files = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = " ".join(_text(folder / name) for name in files).split()
        if len(words) == 2 and all(word.isdecimal() for word in words):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def _memory_groups(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the groups that have a limit, with the limit in bytes."""
    for folder in _groups(root, "memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if limit is not None and limit < UNLIMITED:
            yield folder, limit


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the process's group and of its parents, in both versions."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        mounts = [""] if number == "0" else [controllers, controller]
        mount = next((found for name in mounts if (found := root / "sys/fs/cgroup" / name).is_dir()), None)
        if mount is None:
            continue
        folder = mount / path.lstrip("/")
        if ".." in folder.parts or not folder.is_dir():  # the path is the host's; the container sees its own group
            folder = mount
        yield from (group for group in (folder, *folder.parents) if group.is_relative_to(mount))


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None  # "max" is no limit


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
