"""The files of a folder as they are now. Letters: F files of a folder."""

import contextlib
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from aimv2.base.errors import UsageError
from aimv2.datasets.stamps import Stamp, stamp_of

OTHERS = ("avif", "bmp", "gif", "heic", "jxl", "tif", "tiff")  # formats of images that are not decoded
MAX_MEMBERS = 1000  # different ones that are kept


class Listing(NamedTuple):
    """The files of a folder that belong to samples.

    Attributes:
        folder: path within the indexed folder, with a slash at its end; empty for the indexed folder itself.
        names: sorted.
        stamp_F3: int64, with the columns of ``Stamp``.
        folder_stamp: of the folder itself, if every later change of its names changes it; else None.
    """

    folder: str
    names: list[str]
    stamp_F3: np.ndarray
    folder_stamp: Stamp | None = None

    def file(self, place: int) -> tuple[str, Stamp]:
        """Return the path of a file within the indexed folder, and its stamp."""
        return self.folder + self.names[place], Stamp(*self.stamp_F3[place].tolist())


def by_folder(paths: Iterable[str]) -> dict[str, set[str]]:
    """Return the names of files by their folder, which has a slash at its end."""
    found: dict[str, set[str]] = {}
    for path in paths:
        folder, slash, name = path.rpartition("/")
        found.setdefault(folder + slash, set()).add(name)
    return found


class Walk:
    """The listings of a folder and its subfolders. Hidden names are left out.

    Args:
        root: a real path.
        extensions: of images, in lower case.
        named: the images by folder, whatever their extensions.
        known: stamps of folders that were listed earlier. A folder that still has its stamp is not listed again, unless
            links are followed: what they lead to may change elsewhere.
        follow_links: follow links that lead out of the folder, or to a folder.

    Attributes:
        unchanged: the folders that were not listed.
        num_outside: links that were not followed, because they lead out of the folder or to a folder.
        others: numbers of files in formats of images that are not read, by extension.
        members: what the names of files beside images have after the stem, such as ``caption.txt``; not all if there
            are very many.
    """

    def __init__(
        self,
        root: str,
        extensions: tuple[str, ...] = (),
        named: Mapping[str, set[str]] | None = None,
        known: Mapping[str, Stamp | None] | None = None,
        *,
        follow_links: bool = False,
    ) -> None:
        self._root, self._extensions, self._named, self._follow_links = root, extensions, named, follow_links
        self._known = {} if follow_links or known is None else known
        self._subfolders = by_folder(folder[:-1] for folder in self._known if folder)
        self._started = time.time_ns()
        self.unchanged: set[str] = set()
        self.num_outside = 0
        self.others = Counter[str]()
        self.members: set[str] = set()

    def __iter__(self) -> Iterator[Listing]:
        if self._named is None:
            yield from self._below("", {_identity(self._root)} if self._follow_links else set())
            return
        for folder, names in sorted(self._named.items()):
            if not self._is_known(folder, stamp := self._stamp(folder)):
                yield self._listing(folder, stamp, self._entries(folder), names.__contains__)

    def is_image(self, name: str) -> bool:
        """True if a name has the extension of an image."""
        return name.lower().endswith(self._extensions)

    def _below(self, folder: str, seen: set[tuple[int, int]]) -> Iterator[Listing]:
        """Yield the listings of a folder and of those below it.

        Args:
            seen: identities of the folders so far, if links are followed: each folder is listed once.
        """
        if self._is_known(folder, stamp := self._stamp(folder)):
            subfolders = self._subfolders.get(folder, set())
        else:
            entries = [entry for entry in self._entries(folder) if not entry.name.startswith(".")]
            listing = self._listing(folder, stamp, entries, self.is_image)
            if _is_utf8(folder):
                yield listing
            is_folder = partial(os.DirEntry.is_dir, follow_symlinks=self._follow_links)
            subfolders = {entry.name for entry in entries if _is(partial(is_folder, entry))}
        for name in sorted(subfolders):
            if self._follow_links:
                if (identity := _identity(os.path.join(self._root, folder, name))) in seen:
                    continue
                seen.add(identity)
            yield from self._below(f"{folder}{name}/", seen)

    def _stamp(self, folder: str) -> Stamp | None:
        """Return the stamp of a folder; None if there is no such folder that may be listed."""
        path = os.path.join(self._root, folder)
        try:
            return stamp_of(os.stat(path)) if self._follow_links or _holds(self._root, path) else None
        except OSError:
            return None

    def _is_known(self, folder: str, stamp: Stamp | None) -> bool:
        """True if a folder need not be listed, which is then recorded."""
        if is_known := stamp is not None and stamp == self._known.get(folder):
            self.unchanged.add(folder)
        return is_known

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        path = os.path.join(self._root, folder)
        if not self._follow_links and not _holds(self._root, path):
            return []
        try:
            with os.scandir(path) as scan:
                return list(scan)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UsageError(f"folder: {path} cannot be read: {error.strerror}") from error

    def _listing(
        self, folder: str, stamp: Stamp | None, entries: Sequence[os.DirEntry[str]], is_image: Callable[[str], bool]
    ) -> Listing:
        folder_stamp = stamp if stamp and stamp.is_older(self._started) and _are_plain(entries) else None
        entries = [entry for entry in entries if not entry.name.endswith("~")]  # what editors keep
        images = {entry.name for entry in entries if is_image(entry.name) and self._is_file(entry)}
        stems = {name.rpartition(".")[0] for name in images}
        found = Counter(entry.name.lower().rpartition(".")[2] for entry in entries if entry.name not in images)
        self.others.update({extension: found[extension] for extension in OTHERS if found[extension]})
        self.num_outside += sum(entry.is_symlink() and self._leads_out(entry) for entry in entries)
        names, numbers = list[str](), array("q")
        for entry in sorted(entries, key=attrgetter("name")):
            if entry.name in images or (self._belongs(entry.name, stems) and self._is_file(entry)):
                with contextlib.suppress(FileNotFoundError):  # it has just gone
                    numbers.extend(stamp_of(entry.stat()))
                    names.append(entry.name)
        if names:
            _check_utf8(names, folder)
        stamp_F3 = np.array(numbers, np.int64).reshape(-1, len(Stamp._fields))
        return Listing(folder, names, stamp_F3, folder_stamp)

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        """True for a file, and for a link to one that is followed."""
        if not entry.is_symlink():
            return entry.is_file(follow_symlinks=False)
        return _is(entry.is_file) and not self._leads_out(entry)

    def _leads_out(self, link: os.DirEntry[str]) -> bool:
        return not self._follow_links and (_is(link.is_dir) or not is_within(self._root, link.path))

    def _belongs(self, name: str, stems: set[str]) -> bool:
        """True if a file has the stem of an image, as ``a.txt`` and ``a.caption.txt`` have that of ``a.jpg``."""
        end = len(name)
        while (end := name.rfind(".", 0, end)) >= 0:
            if name[:end] in stems:
                if len(self.members) < MAX_MEMBERS:
                    self.members.add(name[end + 1 :])
                return True
        return False


def _are_plain(entries: Sequence[os.DirEntry[str]]) -> bool:
    """False if a folder may change unseen: behind a link, or below a name that is not UTF-8, which is not indexed."""
    return not any(entry.is_symlink() for entry in entries) and _is_utf8("".join(entry.name for entry in entries))


def _is(question: Callable[[], bool]) -> bool:
    """Return the answer; False for a link that leads to itself."""
    try:
        return question()
    except OSError:
        return False


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def is_within(root: str, file: str) -> bool:
    """True if a file is in a folder once links are followed; ``root`` is a real path.

    To follow all links of a path takes as long as to read a small file, so this is done once for each folder.
    """
    parent, name = os.path.split(file)
    if name in ("", ".", "..") or os.path.islink(file):
        return os.path.realpath(file).startswith(root.rstrip("/") + "/")
    return _holds(root, parent)


@lru_cache(maxsize=4096)
def _holds(root: str, folder: str) -> bool:
    return (os.path.realpath(folder) + "/").startswith(root.rstrip("/") + "/")


def _check_utf8(names: Sequence[str], folder: str) -> None:
    if not _is_utf8("".join([folder, *names])):
        broken = next(name for name in (folder, *names) if not _is_utf8(name))
        path = broken if broken == folder else folder + broken
        raise UsageError(f"the name of {path!r} is not UTF-8; rename it")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
