"""Which code this is: a digest of its files, and the commit that they are at."""

import hashlib
import json
import subprocess
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
FROZEN = "frozen.json"  # beside the packages of a frozen copy (sweeps/freeze.py): the commit that they were copied at


@lru_cache
def digest() -> str:
    """Of the package ``aimv2`` as it is imported."""
    return digest_of(PACKAGE)


def digest_of(folder: Path) -> str:
    """A hash of the folder's files, by relative path and content, 12 hex digits. Python's caches do not count."""
    files = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    whole = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:12]


@lru_cache
def git_commit() -> str:
    """The commit that the code is at, with ``+changes`` where the tree differs from it; empty outside a checkout."""
    frozen = PACKAGE.parent / FROZEN
    if frozen.exists():  # first: the copy may lie within a checkout that has moved on
        return str(json.loads(frozen.read_text())["commit"])
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"],
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()
