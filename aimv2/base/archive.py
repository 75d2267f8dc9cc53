"""Folders of files with checksums and the same as zip files: written so that they repeat, and read without trust."""

import contextlib
import getpass
import hashlib
import lzma
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
# What reading a broken file raises.
BROKEN = (OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, RuntimeError, ValueError)


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
        """Return the content of a file; refuse one that is missing, larger, or not the file of its checksum."""
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
    """Compare every file of a folder or zip file of others with its checksum.

    Nothing is unpacked, and only names among the checksums are read, so that no name or link can lead elsewhere.
    """
    with _unreadable(path):
        sizes = _sizes(path)
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
        if unpaired := sorted(names ^ sums.keys()):
            raise UsageError(f"{path}: {some(list(map(short, unpaired)))} are not both files and lines of {SUMS}")
        for name, expected in sums.items():
            with _opened(path, top + name) as stream:
                checksum = hashlib.sha256()
                while block := stream.read(CHUNK):
                    checksum.update(block)
            if checksum.hexdigest() != expected:
                raise UsageError(f"{path}: {short(name)} is not the file of its checksum in {SUMS}")
    return Archive(path, top, sums)


def _sizes(path: Path) -> dict[str, int]:
    """Return the bytes of the files in a folder or zip file, by name."""
    if path.is_dir():
        return {name: (path / name).stat().st_size for name in files_of(path)}
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.filename.endswith("/")]
    sizes = {member.filename: member.file_size for member in members}
    if len(sizes) < len(members):
        raise UsageError(f"{path} has two files of one name")
    return sizes


def _sums(path: Path, content: bytes) -> dict[str, str]:
    sums: dict[str, str] = {}
    lines = content.decode("utf-8").splitlines() if len(content) <= MAX_SUMS_BYTES else [""]
    for line in lines:
        match = LINE.fullmatch(line)
        if match is None or match[2] in sums:
            raise UsageError(f"{path}: {SUMS} has a line that is no checksum of another file: {short(line)}")
        sums[match[2]] = match[1]
    return sums


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    if path.is_dir():
        with (path / name).open("rb") as stream:
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
    except BROKEN as error:
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
