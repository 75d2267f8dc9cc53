"""The identity of the code that runs: a digest of its files, and its git commit."""

import hashlib
import json
import subprocess
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
FROZEN = "frozen.json"  # in a code snapshot (sweeps/freeze.py), next to the packages: the commit of the snapshot


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
