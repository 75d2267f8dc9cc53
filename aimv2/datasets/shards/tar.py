"""Members of tar archives, found by their headers in one pass. Nothing is extracted, and no link is followed.

``tarfile`` does the same, more than ten times slower than this, and then indexing is slower than a disk.

The formats are ustar, pax and GNU. webdataset writes a pax header in front of every member, because its times have
fractions, so the headers of a member are a chain: extended headers, each with content, then the member's own.
"""

import re
import struct
from collections.abc import Callable, Iterator
from io import BufferedIOBase, RawIOBase
from typing import NamedTuple
from zlib import crc32

BLOCK = 512
HEADER = struct.Struct("100s24x12s20xc100x6s82x155s12x")  # name, size, type, magic, prefix
CHECKSUM = slice(148, 156)
WINDOW = 4 << 20  # bytes read at a time: few enough to stay in the processor's cache while they are hashed
MAX_EXTENDED = 1 << 20  # bytes of the content of an extended header
ZEROS = bytes(BLOCK)
PAX_RECORD = re.compile(rb"([0-9]{1,7}) ([^=]+)=")
TIME_ONLY = re.compile(rb"[0-9]{2} mtime=[0-9.]+\n")
SPARSE = "has sparse members; write it again without --sparse"
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
FILES = (b"0", b"\0", b"7")
EXTENDED = (b"x", b"L", b"K", b"g")
NO_CONTENT = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "character device",
    b"4": "block device",
    b"5": "folder",
    b"6": "pipe",
}
HAS_NO_CONTENT = (*NO_CONTENT, *FILES)  # of files only those of the oldest format, if they are folders
AFTER_END = "bytes after the end of the archive"


class TarError(ValueError):
    """A broken archive. The message follows the archive's name in a sentence: "is cut short: …"."""


class Member(NamedTuple):
    """A member of an archive. Positions are bytes from the start of the archive.

    Attributes:
        name: its path; bytes that are not UTF-8 are escaped.
        kind: empty for a file; otherwise what it is, such as ``symbolic link``.
        start: of its first header.
        data: of its content.
        size: bytes of its content.
        checksum: CRC-32 of its content, if that was read.
    """

    name: str
    kind: str
    start: int
    data: int
    size: int
    checksum: int = 0


def walk(file: RawIOBase | BufferedIOBase, on_bytes: Callable[[memoryview], object]) -> Iterator[Member]:
    """Read an archive once, from start to end, and yield its members.

    Args:
        file: the archive, at its start.
        on_bytes: called with all bytes of the archive, in order.

    Raises:
        TarError: the file is not an uncompressed tar, is cut short, or has a broken header.
    """
    buffer = bytearray(WINDOW)
    view = memoryview(buffer)
    base = filled = at = after_end = 0  # the window starts at byte `base` of the archive; the next header is at `at`
    ended = False
    last = ""
    member: Member | None = None  # whose content is being read, up to byte `end`
    end = 0
    while count := file.readinto(view[filled:]):
        on_bytes(view[filled : filled + count])
        filled += count
        if base == at == 0 and filled >= BLOCK:
            _check_first(buffer)
        while not ended:
            if member is not None:
                start, end = end, min(member.data + member.size, base + filled)
                member = member._replace(checksum=crc32(view[start - base : end - base], member.checksum))
                if end < member.data + member.size:
                    break
                yield member
                member = None
            if at - base + BLOCK > filled:
                break
            if ended := buffer.startswith(ZEROS, at - base):
                break
            member = first_member(buffer, at - base, filled, base)
            if member is None:
                break
            at, last, end = member.data + -(-member.size // BLOCK) * BLOCK, member.name, member.data
        if ended:
            rest = min(at - base, filled)
            after_end += filled - rest - buffer.count(0, rest, filled)
            at = base + filled
        done = min(at - base, filled // BLOCK * BLOCK)
        if filled == WINDOW and not done:
            raise TarError(f"has a header of more than {WINDOW:,} bytes at byte {at:,}")
        buffer[: filled - done] = buffer[done:filled]
        base, filled = base + done, filled - done
    if not ended:
        raise TarError(_why_short(base + filled, at, last))
    if after_end:
        yield Member("", AFTER_END, base, base, after_end)


def first_member(content: bytes | bytearray, at: int = 0, end: int | None = None, base: int = 0) -> Member | None:
    """Return the member whose first header is at byte ``at``; None if its headers are incomplete before byte ``end``.

    Args:
        base: place of ``content`` in the archive, from which the member's positions count.

    Raises:
        TarError: there is no header, or a broken one.
    """
    start, end = base + at, len(content) if end is None else end
    long_name: bytes | None = None
    pax: dict[bytes, bytes] = {}
    while at + BLOCK <= end:
        block = bytes(content[at : at + BLOCK])
        if not _is_intact(block):
            raise TarError(f"has a broken header at byte {base + at:,}")
        name, digits, kind, magic, prefix = HEADER.unpack(block)
        at += BLOCK
        size = _number(digits)
        if kind not in EXTENDED:
            name = name.partition(b"\0")[0]
            if prefix[0] and magic == b"ustar\0":
                name = prefix.partition(b"\0")[0] + b"/" + name
            what = _kind(kind, name)
            if what and kind in HAS_NO_CONTENT:
                size = 0
            elif b"size" in pax:
                size = _decimal(pax[b"size"])
            own_name = pax[b"path"].rstrip(b"/") if b"path" in pax else name
            name = own_name if long_name is None else long_name
            return Member(name.decode(errors="backslashreplace"), what, start, base + at, size)
        if size > MAX_EXTENDED:
            raise TarError(f"has an extended header of {size:,} bytes")
        if at + size > end:
            break
        extended = bytes(content[at : at + size])
        at += -(-size // BLOCK) * BLOCK
        # Of several headers that name the member, the first counts, as in tarfile.
        if kind == b"L" and long_name is None and b"path" not in pax:
            long_name = extended.partition(b"\0")[0]
        elif kind == b"x":
            pax = _pax(extended) | pax
        elif kind == b"g" and _pax(extended).keys() & {b"path", b"size"}:
            raise TarError("has a global header with a path or size for all members")
    return None


def _kind(kind: bytes, name: bytes) -> str:
    if kind in FILES:
        return "folder" if kind == b"\0" and name.endswith(b"/") else ""
    if kind == b"S":
        raise TarError(SPARSE)
    return NO_CONTENT.get(kind, "member of unknown type")


def _pax(content: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax header, each ``<bytes of the record> <keyword>=<value>\\n``."""
    if TIME_ONLY.fullmatch(content) and int(content[:2]) == len(content):
        return {}  # as nearly all are
    if b"GNU.sparse." in content:
        raise TarError(SPARSE)
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(content) and content[at]:
        found = PAX_RECORD.match(content, at)
        end = at + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(content) or content[end - 1] != 0x0A:
            raise TarError("has a broken pax header")
        records[found[2]] = content[found.end() : end - 1]
        at = end
    return records


def _number(field: bytes) -> int:
    """Return a number of a header: octal digits, or binary after the byte 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        value = int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        value = -1
    if value < 0:
        raise TarError("has a broken header")
    return value


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 19:
        raise TarError("has a broken pax header")
    return int(digits)


def _check_first(buffer: bytearray) -> None:
    """Raise an error for a file that is not a tar archive."""
    for magic, kind in COMPRESSED.items():
        if buffer.startswith(magic):
            raise TarError(f"is compressed ({kind}); decompress it, because samples are read in place")
    block = bytes(buffer[:BLOCK])
    if block != ZEROS and not _is_intact(block):
        raise TarError("is not a tar archive")


def _is_intact(block: bytes) -> bool:
    """True if the header's checksum is right; old writers summed signed bytes."""
    try:
        stored = _number(block[CHECKSUM])
    except TarError:
        return False
    total = sum(block) - sum(block[CHECKSUM]) + 8 * ord(" ")
    if stored == total:
        return True
    counted = block[: CHECKSUM.start] + block[CHECKSUM.stop :]
    return stored == total - 256 * sum(byte > 127 for byte in counted)


def _why_short(size: int, at: int, last: str) -> str:
    if not size:
        return "is empty"
    if size < BLOCK:
        return "is not a tar archive"
    if at > size:
        return f"is cut short: its member {last!r} ends at byte {at:,}, and the file at byte {size:,}"
    return f"is cut short: it ends at byte {size:,} without the mark of its end"
