"""Files of this host: their stamps, the files of a folder of images, and checksums."""

import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from aimv2.base.errors import UsageError
from aimv2.base.processes import in_processes
from aimv2.datasets.remote import Patience

IMAGES = ("jpg", "jpeg", "png", "webp")
OTHER_IMAGES = ("avif", "bmp", "gif", "heic", "jxl", "tif", "tiff")  # formats that are not decoded
CHUNK = 1 << 20  # bytes that are read at a time
GROUP = 128  # files that a process reads at a time
NAMED = 3  # files of each kind that a difference names


class Stamp(NamedTuple):
    """What a file system says of a file.

    Attributes:
        size: bytes; -1 if there is no file.
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


MISSING = Stamp(-1, 0, 0)


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def stamp_at(path: str | os.PathLike[str]) -> Stamp:
    """Return the stamp of a file, MISSING if there is none."""
    try:
        return stamp_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return MISSING


def difference(before: Mapping[str, Stamp], now: Mapping[str, Stamp]) -> str:
    """Return one sentence on files that are missing, new or changed; empty if there is no difference."""
    kinds: dict[str, list[str]] = {"missing": [], "new": [], "changed": []}
    for name, stamp in before.items():
        if name not in now:
            kinds["missing"].append(name)
        elif not stamp.is_same(now[name]):
            kinds["changed"].append(name)
    kinds["new"] = [name for name in now if name not in before]
    return changes(kinds)


def changes(names: Mapping[str, Sequence[str]]) -> str:
    """Return one sentence on names by what they are: ``a.jpg is missing; b.jpg, c.jpg, d.jpg and 2 more are changed``.

    Kinds without names are left out.
    """
    return "; ".join(
        f"{_listed(sorted(some))} {'is' if len(some) == 1 else 'are'} {kind}" for kind, some in names.items() if some
    )


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def sha256_of(file: Path, stamp: Stamp) -> str:
    """Return the SHA-256 of a file, which must still have its stamp."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        _require_unchanged(str(file), stamp, stamp_of(os.fstat(opened.fileno())))
    return digest


class FolderListing(NamedTuple):
    """The files of a folder that belong to samples: images, and files beside them with the same stem."""

    stamps: dict[str, Stamp]  # by path within the folder, in the order of folders and names
    images: set[str]  # paths
    num_outside: int  # links that lead out of the folder or to a folder, which are not followed
    others: Counter[str]  # numbers of files in formats of images that are not read, by extension


def list_folder(root: str, extensions: Sequence[str] = IMAGES, named: Iterable[str] | None = None) -> FolderListing:
    """List a folder, a real path, and its subfolders. Hidden names and those that end in ``~`` are left out.

    If paths of images are named, whatever their extensions, only the folders of these are listed.
    """
    wanted = None if named is None else set(named)
    suffixes = tuple(f".{extension.lower()}" for extension in extensions)
    stamps, images, num_outside, others = dict[str, Stamp](), set[str](), 0, Counter[str]()
    for folder in _folders(root, wanted):
        with os.scandir(os.path.join(root, folder)) as scan:
            entries = {entry.name: entry for entry in scan if not entry.name.endswith("~")}
        if wanted is None:
            entries = {name: entry for name, entry in entries.items() if not name.startswith(".")}
        outside = {name for name, entry in entries.items() if entry.is_symlink() and _leads_out(root, entry.path)}
        files = sorted(name for name, entry in entries.items() if name not in outside and _is_file(entry))
        is_image = [name.lower().endswith(suffixes) if wanted is None else folder + name in wanted for name in files]
        stems = {name.rpartition(".")[0] for name, is_one in zip(files, is_image, strict=True) if is_one}
        for name, is_one in zip(files, is_image, strict=True):
            path = folder + name
            if is_one:
                images.add(path)
            elif not any(stem in stems for stem, _ in splits(name)):
                continue
            if not is_utf8(path):
                raise UsageError(f"the name of {path!r} is not UTF-8; rename it")
            stamps[path] = stamp_at(entries[name])
        others.update(end for name in entries if (end := name.lower().rpartition(".")[2]) in OTHER_IMAGES)
        num_outside += len(outside)
    return FolderListing(stamps, images, num_outside, others)


def splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield all divisions of a file's name at a dot: ``a``, ``b.txt`` and ``a.b``, ``txt`` of ``a.b.txt``."""
    for place, sign in enumerate(name):
        if sign == ".":
            yield name[:place], name[place + 1 :]


def _folders(root: str, wanted: set[str] | None) -> Iterator[str]:
    """Yield folders, as paths within ``root`` with a slash at their end: those of the wanted files, or all."""
    if wanted is not None:
        folders_of = sorted({path[: path.rfind("/") + 1] for path in wanted})
        paths = ((folder, os.path.join(root, folder)) for folder in folders_of)
        yield from (folder for folder, path in paths if os.path.isdir(path) and _holds(root, path))
        return

    def refuse(error: OSError) -> None:
        raise UsageError(f"folder: {error.filename} cannot be read: {error.strerror}") from error

    for path, folders, _ in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield "" if path == root else f"{os.path.relpath(path, root)}/"


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _leads_out(root: str, link: str) -> bool:
    return os.path.isdir(link) or not is_within(root, link)


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


def is_utf8(text: str) -> bool:
    """False for text with half a character, as of names of files in another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def checksums(
    root: str,
    stamps: Mapping[str, Stamp],
    workers: int,
    on_progress: Callable[[int, int | None], None],
) -> Iterator[tuple[str, str]]:
    """Read files, and yield the path of each with the CRC-32 of its content in hexadecimal."""
    items = list(stamps.items())
    groups = [items[start : start + GROUP] for start in range(0, len(items), GROUP)]
    num_read = 0
    for group in in_processes(partial(_read_files, root), groups, min(workers, len(groups)), "reads files"):
        yield from group
        num_read += len(group)
        on_progress(num_read, len(items))


def _read_files(root: str, files: Sequence[tuple[str, Stamp]]) -> list[tuple[str, str]]:
    return [(path, _checksum(os.path.join(root, path), stamp)) for path, stamp in files]


def _checksum(file: str, stamp: Stamp) -> str:
    try:
        checksum, now = Patience().read(lambda: _summed(file))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    _require_unchanged(file, stamp, now)
    return f"{checksum:08x}"


def _summed(file: str) -> tuple[int, Stamp]:
    """Return the checksum of a file of any size, and its stamp after it was read."""
    checksum = 0
    with open(file, "rb", buffering=0) as opened:
        while content := opened.read(CHUNK):
            checksum = zlib.crc32(content, checksum)
        return checksum, stamp_of(os.fstat(opened.fileno()))


def _require_unchanged(file: str, before: Stamp, now: Stamp) -> None:
    if now != before:
        raise UsageError(f"{file} changed while it was indexed; index again when it is complete")
