"""Whether files are those that were indexed, without reading them."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

NAMED = 3  # files of each kind that a difference names


class Stamp(NamedTuple):
    """What a file system says of a file.

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
        return self[:2] == other[:2]


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


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
