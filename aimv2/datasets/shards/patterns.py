"""Lists of shards from paths, brace ranges, globs and URLs."""

import glob
import math
import os
import re
from collections.abc import Iterable, Iterator
from types import MappingProxyType

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from aimv2.base.errors import UsageError
from aimv2.datasets.shards.remote import Options, file_system, translated

MAX_SHARDS = 10_000_000
RANGE = re.compile(r"\{(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})")
LIST = re.compile(r"\{[^{}]*,[^{}]*\}")
MAGIC = "*?["
# Descriptions are not trusted, and others of fsspec's protocols log in to hosts or open archives and repositories.
PROTOCOLS = ("abfs", "az", "file", "ftp", "gcs", "gs", "hf", "http", "https", "memory", "s3")


def is_url(name: str) -> bool:
    """True for names that fsspec reads; other names are paths."""
    return "://" in name


def is_here(name: str) -> bool:
    """True for files of this host."""
    return not is_url(name) or name.startswith("file://")


def expand(shards: Iterable[str], key: str = "shards", options: Options = MappingProxyType({})) -> list[str]:
    """Return the names of files in the order given, without repetitions.

    Args:
        shards: paths and URLs, with brace ranges (``{00000..00331}``) and globs (``*``), whose matches are sorted.
        key: of the description, for messages.
        options: of the file systems of URLs.

    Raises:
        UsageError: there is no shard, a file is missing, or a name is a pipe, a chain of URLs or has another protocol.
    """
    patterns = list(shards)
    for pattern in patterns:
        if pattern.startswith("pipe:") or "|" in pattern:
            raise UsageError(f"{key}: {pattern!r} is a pipe, which would run a command; paths and URLs are allowed")
    if sum(math.prod(_lengths(pattern)) for pattern in patterns) > MAX_SHARDS:  # before memory is full of their names
        raise UsageError(f"{key}: {', '.join(patterns)} are more than {MAX_SHARDS:,} files, and no more are allowed")
    names = list(dict.fromkeys(name for pattern in patterns for name in _matches(pattern, key, options)))
    if not names:
        raise UsageError(f"{key}: the list is empty; name at least one file")
    return names


def _lengths(pattern: str) -> list[int]:
    """Return the numbers of names of the pattern's ranges and lists."""
    lists = [names.count(",") + 1 for names in LIST.findall(pattern)]
    return [abs(int(last) - int(first)) + 1 for first, last in RANGE.findall(pattern)] + lists


def base_of(shards: Iterable[str]) -> str:
    """Return what all names of the shards start with, to the last slash before a brace range or glob."""
    starts = [re.split(r"[{*?\[\\]", pattern)[0] for pattern in shards]
    literal = os.path.commonprefix(starts)  # noqa: RUF071 – of characters, because URLs are no paths
    return literal[: literal.rfind("/") + 1]


def _matches(pattern: str, key: str, options: Options) -> Iterator[str]:
    try:
        for name in braceexpand(pattern):
            _check_url(name, key)
            yield from (
                _glob(name, key, options) if any(sign in name for sign in MAGIC) else _existing(name, pattern, key)
            )
    except UnbalancedBracesError as error:
        raise UsageError(f"{key}: {pattern!r} has a brace without its partner") from error


def _check_url(name: str, key: str) -> None:
    """Raise a UsageError for a URL that can do more than read a file."""
    if not is_url(name):
        return
    protocol = name.partition("://")[0]
    if "::" in name:
        raise UsageError(f"{key}: {name!r} chains URLs with '::', which is not allowed; name the files themselves")
    if protocol not in PROTOCOLS:
        what = f"has the protocol {protocol}" if protocol else "has no protocol"
        raise UsageError(f"{key}: {name!r} {what}; allowed are {', '.join(PROTOCOLS)}")
    host = name.partition("://")[2].partition("/")[0]
    if (login := host.rpartition("@")[0]) and (":" in login or protocol not in ("abfs", "az")):
        where = f"{protocol}://…@{host.rpartition('@')[2]}"
        raise UsageError(f"{key}: {where} has a login; passwords and keys come from the environment")
    if protocol in ("http", "https") and "?" in name:
        raise UsageError(f"{key}: {name.partition('?')[0]}?… has a query, which may hold a key; leave it out")


def _existing(name: str, pattern: str, key: str) -> list[str]:
    if not is_url(name) and not os.path.isfile(name):
        what = "is not a file" if os.path.exists(name) else "does not exist"
        raise UsageError(f"{key}: {name} {what}" + (f" (from {pattern})" if name != pattern else ""))
    return [name]


def _glob(name: str, key: str, options: Options) -> list[str]:
    if not is_url(name) and os.path.isfile(name):  # a file whose own name has such a sign
        return [name]
    if is_url(name):
        system, path = file_system(name, options)
        # File systems return paths in a form of their own; the names of shards keep the form of the pattern.
        base = base_of([name])
        own_base = str(system._strip_protocol(base)).rstrip("/") + "/"
        found = [base + match.removeprefix(own_base) for match in translated(lambda: system.glob(path))]
        for match in found:
            _check_url(match, key)
    else:
        found = glob.glob(name, recursive=True)
    if not found:
        raise UsageError(f"{key}: no file matches {name}")
    return sorted(found)
