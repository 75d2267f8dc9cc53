"""The identity of the code that runs: a digest of its files, its git commit, and the versions of its packages."""

import hashlib
import json
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
FROZEN = "frozen.json"  # in a code snapshot (sweeps/freeze.py), next to the packages: the commit of the snapshot
LOCK = "constraints.txt"  # next to the packages, in a checkout and in a code snapshot; an installed wheel has none


@lru_cache
def digest() -> str:
    """Return the digest of the imported ``aimv2`` package."""
    return digest_of(PACKAGE)


def digest_of(folder: Path) -> str:
    """Hash the folder's files by relative path and content, to 12 hex digits. Python's caches do not count."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    whole = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in files):
        content = path.read_bytes()
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:12]


@lru_cache
def git_commit(package: Path = PACKAGE) -> str:
    """Return the commit of the code, with ``+changes`` if the files differ from it; empty outside a checkout."""
    frozen = package.parent / FROZEN
    if frozen.exists():  # first: the snapshot may be inside a checkout that has moved on
        return str(json.loads(frozen.read_text())["commit"])
    try:
        command = ["git", "describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"]
        return subprocess.check_output(command, cwd=package, stderr=subprocess.DEVNULL, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


@lru_cache
def compare_with_lock(path: Path = PACKAGE.parent / LOCK) -> dict[str, Any] | None:
    """Return how the installed versions differ from the lock, or None if there is no lock.

    Returns:
        ``digest`` of the lock, 12 hex digits; ``matches``; and ``differences``, the installed version of each package
        that is not at its locked version. Locked packages that are not installed and local labels such as ``+cpu`` are
        ignored.
    """
    if not path.exists():
        return None
    content = path.read_bytes()
    locked = dict(line.split("==") for line in content.decode().splitlines() if not line.startswith("#"))
    differences = {name: version for name in locked if (version := _installed(name)) not in (None, locked[name])}
    return {"digest": hashlib.sha256(content).hexdigest()[:12], "matches": not differences, "differences": differences}


def _installed(name: str) -> str | None:
    """Return the installed version of a package without its local label, or None if it is not installed."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None
