"""Folders as zip files with checksums: the same bytes whenever they are written, and unpacked without trust."""

import hashlib
import re
import stat
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from aimv2.base.errors import UsageError, short, some
from aimv2.base.files import check_new, replacing

SUMS = "SHA256SUMS"  # read by: sha256sum -c SHA256SUMS
DATE = (1980, 1, 1, 0, 0, 0)  # of every member: the first that a zip file can have
MODE = 0o644 | stat.S_IFREG
MAX_FILES = 20_000
MAX_BYTES = 16 * 2**30  # of all files
MAX_SUMS_BYTES = 4 * 2**20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def files_of(folder: Path) -> list[str]:
    """Return the paths of all files in a folder, relative to it and sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write_zip(folder: Path, path: Path) -> None:
    """Write all files of a folder and their checksums into a zip file, whole or not at all.

    The same files give the same bytes with the same version of zlib, whenever and by whomever they were written.

    Raises:
        UsageError: the file exists or cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path} exists; choose another to=")
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in _digests(folder).items()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path.resolve()) as partial, zipfile.ZipFile(partial, "w") as archive:
            for name in files_of(folder):
                member = zipfile.ZipInfo(name, DATE)
                member.external_attr, member.create_system = MODE << 16, 3
                archive.writestr(member, (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def unpack_zip(path: Path, folder: Path) -> None:
    """Unpack a zip file that somebody else has written into a new folder, whole or not at all.

    Raises:
        UsageError: the folder has files, or the file is broken, has names that lead elsewhere, two files of one name,
            encrypted, too many or too large files, or files that are not those of its checksums.
    """
    check_new(folder)
    try:
        with zipfile.ZipFile(path) as archive, replacing(folder.resolve(), only_new=True) as partial:
            members = [member for member in archive.infolist() if not member.filename.endswith("/")]
            if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_BYTES:
                raise UsageError(
                    f"{path} is too large: at most {MAX_FILES:,} files of {MAX_BYTES:,} bytes are unpacked"
                )
            names = [member.filename for member in members]
            for name, number in Counter(names).items():
                is_safe = name.isprintable() and not set(name) & set("\\:")
                if not is_safe or number > 1 or any(part in ("", ".", "..") for part in name.split("/")):
                    raise UsageError(f"{path} has a file whose name leads elsewhere or is there twice: {short(name)}")
            for member in members:
                if member.flag_bits & 1 or member.compress_type not in METHODS:
                    raise UsageError(f"{path}: {member.filename} is encrypted, or compressed by no usual method")
                if member.filename == SUMS and member.file_size > MAX_SUMS_BYTES:
                    raise UsageError(f"{path}: {SUMS} is larger than {MAX_SUMS_BYTES:,} bytes")
            archive.extractall(partial, members)  # a link becomes a file with the path in it
            _check_sums(path, partial)
    except UsageError:
        raise
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be unpacked: {reason or error}") from error


def _check_sums(path: Path, folder: Path) -> None:
    """Raise a UsageError unless the files of a folder, which are those of the zip file ``path``, are those that it
    lists."""
    listed, digests = dict[str, str](), _digests(folder)
    for line in (folder / SUMS).read_text().splitlines() if (folder / SUMS).is_file() else ():
        if (match := LINE.fullmatch(line)) is None or not line.isprintable():
            raise UsageError(f"{path}: {SUMS} has a line that is no checksum: {short(line)}")
        listed[match[2]] = match[1]
    if unpaired := sorted(listed.keys() ^ digests.keys()):
        raise UsageError(f"{path} has other files than {SUMS} lists: {some(unpaired)}")
    if changed := [name for name, digest in digests.items() if listed[name] != digest]:
        raise UsageError(f"{path}: {some(changed)}: not the file of its checksum in {SUMS}")


def _digests(folder: Path) -> dict[str, str]:
    """Return the checksums of all files in a folder but that of checksums."""
    digests = {}
    for name in files_of(folder):
        if name != SUMS:
            with (folder / name).open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
