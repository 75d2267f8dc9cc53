"""The installed versions, compared with those in the lock."""

import hashlib
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

LOCK = "constraints.txt"  # next to the packages, in a checkout and in a code snapshot; an installed wheel has none


@lru_cache
def compare_with_lock(path: Path = Path(__file__).parents[2] / LOCK) -> dict[str, Any] | None:
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
