"""Folders of files with checksums and the same as zip files: written so that they repeat, and read without trust."""

import contextlib
import getpass
import hashlib
import os
import platform
import re
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Self

from aimv2.base.errors import UsageError, short, some

SUMS = "SHA256SUMS"  # read by: sha256sum -c SHA256SUMS
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
DATE = (1980, 1, 1, 0, 0, 0)  # of every member: the first that a zip file can have
MODE = 0o644 | stat.S_IFREG
MAX_FILES = 20_000
MAX_BYTES = 16 * 2**30  # of all files
MAX_SUMS_BYTES = 4 * 2**20
CHUNK = 2**20


def files_of(folder: Path) -> list[str]:
    """Return the paths of all files in a folder, relative to it and sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write_sums(folder: Path) -> None:
    """Write the checksums of all files in a folder into it."""
    names = [name for name in files_of(folder) if name != SUMS]
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / SUMS).write_text("".join(lines))


def write_zip(folder: Path, path: Path, top: str) -> None:
    """Write all files of a folder into a zip file, below a folder named ``top``.

    The same files give the same bytes with the same version of zlib, whenever and by whomever they were written.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files_of(folder):
            member = zipfile.ZipInfo(f"{top}/{name}", DATE)
            member.external_attr, member.compress_type, member.create_system = MODE << 16, zipfile.ZIP_DEFLATED, 3
            with (folder / name).open("rb") as source, archive.open(member, "w", force_zip64=True) as target:
                while block := source.read(CHUNK):
                    target.write(block)


@dataclass(frozen=True)
class Archive:
    """A folder or a zip file whose files are those of its checksums; what is read is compared with them again."""

    path: Path  # the folder or the zip file
    top: str  # the folder in it that has the files, with a slash; empty if there is none
    sums: Mapping[str, str]  # of each file but ``SHA256SUMS``, by its name

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the content of a file."""
        if name not in self.sums:
            raise UsageError(f"{self.path} has no {name}")
        with _unreadable(self.path), _opened(self.path, self.top + name) as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise UsageError(f"{self.path}: {name} is larger than {max_bytes:,} bytes")
        if hashlib.sha256(content).hexdigest() != self.sums[name]:
            raise UsageError(f"{self.path}: {name} is not the file of its checksum in {SUMS}")
        return content


def check_archive(path: Path) -> Archive:
    """Compare every file of a folder or zip file of others with its checksum. Nothing is unpacked."""
    with _unreadable(path):
        sizes = _sizes_in_folder(path) if path.is_dir() else _sizes_in_zip(path)
        for name in sizes:
            _check_name(path, name)
        if len(sizes) > MAX_FILES or sum(sizes.values()) > MAX_BYTES:
            raise UsageError(
                f"{path} has {len(sizes):,} files of {sum(sizes.values()):,} bytes; at most {MAX_FILES:,} files of"
                f" {MAX_BYTES:,} bytes are read"
            )
        tops = {name.partition("/")[0] + "/" if "/" in name else "" for name in sizes}
        top = "" if SUMS in sizes or len(tops) != 1 else tops.pop()
        if top + SUMS not in sizes:
            raise UsageError(f"{path} has no {SUMS}; an archive of this project has one")
        with _opened(path, top + SUMS) as stream:
            sums = _sums(path, stream.read(MAX_SUMS_BYTES + 1))
        names = {name.removeprefix(top) for name in sizes} - {SUMS}
        if other := sorted(names ^ sums.keys()):
            raise UsageError(f"{path}: {some(other)} are not both files and lines of {SUMS}")
        for name, expected in sums.items():
            whole = hashlib.sha256()
            with _opened(path, top + name) as stream:
                while block := stream.read(CHUNK):
                    whole.update(block)
            if whole.hexdigest() != expected:
                raise UsageError(f"{path}: {name} is not the file of its checksum in {SUMS}")
    return Archive(path, top, sums)


def _sums(path: Path, content: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    lines = content.decode("utf-8").splitlines() if len(content) <= MAX_SUMS_BYTES else [""]
    for line in lines:
        match = LINE.fullmatch(line)
        if match is None or match[2] in found:
            raise UsageError(f"{path}: {SUMS} has a line that is no checksum of another file: {short(line)}")
        found[match[2]] = match[1]
    return found


def _check_name(path: Path, name: str) -> None:
    parts = name.split("/")
    if not name.isprintable() or set(name) & set("\\:") or any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"{path} has a file whose name points elsewhere: {short(name)}")


def _sizes_in_folder(path: Path) -> dict[str, int]:
    sizes = {}
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            one = Path(folder, name)
            mode = one.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UsageError(f"{path} has a link or a special file: {short(one.relative_to(path).as_posix())}")
            if stat.S_ISREG(mode):
                sizes[one.relative_to(path).as_posix()] = one.lstat().st_size
            if len(sizes) > MAX_FILES:
                return sizes
    return sizes


def _sizes_in_zip(path: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UsageError(f"{path} has a link or a special file: {short(member.filename)}")
            if member.filename.endswith("/") and not member.file_size:  # is_dir() fails for a name of no characters
                continue
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UsageError(f"{path}: {short(member.filename)} is encrypted, or compressed by no usual method")
            if member.filename in sizes:
                raise UsageError(f"{path} has two files of one name: {short(member.filename)}")
            sizes[member.filename] = member.file_size
    return sizes


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    if path.is_dir():
        descriptor = os.open(path / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as stream:
            yield stream
    else:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            yield member


@contextlib.contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """Turn what reading a broken file raises into a sentence."""
    try:
        yield
    except UsageError:
        raise
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be read as a folder or a zip file: {reason or error}") from error


SHORTEST = 3  # letters of a name that is searched for
SEPARATED = rb"(?<![\w.-])%s(?![\w-])"


@dataclass(frozen=True)
class PrivateNames:
    """Names that must not be in what is published.

    Attributes:
        others: names of hosts and users. Those that are words of ``common`` say nothing, such as root, and a text
            would have them anyway.
    """

    home: str  # a folder; below it are the paths of a user
    others: tuple[str, ...]
    common: str = ""  # a text, such as the source code

    @classmethod
    def here(cls, hosts: Collection[str] = (), common: str = "") -> Self:
        """Return those of this process, and these hosts."""
        try:
            users = [getpass.getuser()]
        except (KeyError, OSError):  # it has none, as in some containers
            users = []
        every = [*hosts, platform.node(), *users, os.environ.get("SUDO_USER", "")]
        names = dict.fromkeys(part for name in every for part in (name, name.partition(".")[0]))
        return cls(str(Path.home()), tuple(names), common)

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[bytes]]:
        long = [name for name in self.others if len(name) >= SHORTEST]
        common = self.common.encode()
        patterns = {name: re.compile(SEPARATED % re.escape(name.encode()), re.IGNORECASE) for name in long}
        found = {name: pattern for name, pattern in patterns.items() if not pattern.search(common)}
        if len(self.home) > 1:  # not the root of all files
            found[self.home] = re.compile(SEPARATED % re.escape(self.home.encode()))
        return found

    def found_in(self, content: bytes) -> str:
        """Return the first of the names that a text has; empty if it has none."""
        return next((name for name, pattern in self._patterns.items() if pattern.search(content)), "")
