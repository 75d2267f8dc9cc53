"""Whether files are those that were indexed, without reading them."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aimv2.base.errors import UsageError

CONTENT = slice(0, 2)  # the values of a stamp that say that a content is the same
NAMED = 3  # files of each kind that a difference names
TICK = 2 * 10**9  # nanoseconds; the times of FAT, the coarsest in use, are two seconds apart


class Stamp(NamedTuple):
    """What a file system says of a file, or of a folder, whose content is the names in it.

    Attributes:
        size: bytes.
        modified: nanoseconds of the last change of the content. Copies can keep it, and anybody can set it.
        changed: nanoseconds of the last change of content or status. Nobody can set it, but backups, chmod and copies
            change it too, so it only decides which files are read again for an index.
    """

    size: int
    modified: int
    changed: int

    def is_same(self, other: "Stamp") -> bool:
        """True if a file with the other stamp has the same content, unless somebody has set its time."""
        return self[CONTENT] == other[CONTENT]

    def is_older(self, now: int) -> bool:
        """True if the content last changed more than a tick before a time, so that a later change has another stamp.

        Two changes within a tick can have the same stamp. File systems without times of folders say 0.

        Args:
            now: nanoseconds.
        """
        return 0 < self.modified < now - TICK


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def require_unchanged(file: str | Path, before: Stamp, now: Stamp) -> None:
    """Raise a UsageError if a file changed while it was read for an index."""
    if now != before:
        raise UsageError(f"{file} changed while it was indexed; index again when it is complete")


def digest(file: Path, stamp: Stamp) -> str:
    """Return the SHA-256 of a file, which must still have its stamp."""
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
        require_unchanged(file, stamp, stamp_of(os.fstat(opened.fileno())))
    return found


def changes(names: Mapping[str, Sequence[str]]) -> str:
    """Return one sentence on names by what they are: ``a.jpg is missing; b.jpg, c.jpg, d.jpg and 2 more are changed``.

    Kinds without names are left out.
    """
    return "; ".join(
        f"{_listed(found)} {'is' if len(found) == 1 else 'are'} {kind}" for kind, found in names.items() if found
    )


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
