"""Names of files, from paths and patterns to URLs; and files behind URLs, with copies in a folder of this host."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BufferedIOBase
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from aimv2.base.errors import RunFailedError, UsageError

MAX_NAMES = 10_000_000
RANGE = re.compile(r"\{(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})")
LIST = re.compile(r"\{[^{}]*,[^{}]*\}")
MAGIC = "*?["
# Descriptions are not trusted, and others of fsspec's protocols log in to hosts or open archives and repositories.
PROTOCOLS = ("file", "gcs", "gs", "hf", "http", "https", "memory", "s3")
WAITS = (0.1, 0.4, 1.5, 4.0)  # seconds before each new attempt
TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN}
TRANSIENT |= {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
TRANSIENT |= {errno.EBUSY, errno.EREMOTEIO}  # s3fs: the server is busy (503, SlowDown), or has another error
BLOCK_BYTES = 16 << 20  # of a request, where a file is read in several
CONNECT_SECONDS, SILENT_SECONDS = 30, 60  # after which a web server has failed; s3fs and gcsfs have limits of their own
# Status codes of HTTP; others from 400 to 499 are not asked for again, those from 500 on are.
GONE, DENIED, CUT_SHORT, BUSY = (404, 410), (401, 403), (416,), (408, 425, 429)
NO_LOGIN = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
VERSIONS = ("ETag", "Content-MD5", "Digest", "Last-Modified")  # what a web server says of a content
COPY = re.compile(r"aimv2-[0-9a-f]{40}\.(tar|part)")
ABANDONED_SECONDS = 3600  # after which a part that does not grow is that of a killed process

Options = Mapping[str, Any]  # of a file system, as fsspec takes them
Value = TypeVar("Value")


class OtherContentError(ConnectionError):
    """What was transferred is not what was indexed: it was cut short, the network erred, or the file has changed."""


class Patience:
    """Attempts at reads that can fail for a moment; ``retries`` were repeated."""

    def __init__(self, sleep: Callable[[float], object] = time.sleep) -> None:
        self.retries, self._sleep = 0, sleep

    def read(self, action: Callable[[], Value]) -> Value:
        """Return the result of the action; repeat it after a transient error, for some seconds in all."""
        for wait in WAITS:
            try:
                return action()
            except OSError as error:
                if not is_transient(error):
                    raise
            self.retries += 1
            self._sleep(wait)
        return action()


def is_transient(error: OSError) -> bool:
    """True if the error can go away: of a network, a server or a disk, but not a missing file."""
    return isinstance(error, ConnectionError | TimeoutError) or error.errno in TRANSIENT


def is_url(name: str) -> bool:
    """True for names that fsspec reads; other names are paths."""
    return "://" in name


def expand(patterns: Iterable[str], options: Options = MappingProxyType({})) -> list[str]:
    """Return the names of files in the order given, without repetitions.

    Patterns are paths and URLs, with brace ranges (``{00000..00331}``) and globs (``*``), whose matches are sorted.
    """
    patterns, num_names = list(patterns), 0
    for pattern in patterns:
        if pattern.startswith("pipe:") or "|" in pattern:
            raise UsageError(f"shards: {pattern!r} is a pipe, which would run a command; paths and URLs are allowed")
        lengths = [abs(int(last) - int(first)) + 1 for first, last in RANGE.findall(pattern)]
        num_names += math.prod(lengths + [names.count(",") + 1 for names in LIST.findall(pattern)])
    if num_names > MAX_NAMES:  # before memory is full of their names
        raise UsageError(f"shards: {', '.join(patterns)} are more than {MAX_NAMES:,} files, and no more are allowed")
    names = list(dict.fromkeys(name for pattern in patterns for name in _matches(pattern, options)))
    if not names:
        raise UsageError("shards: the list is empty; name at least one file")
    return names


def base_of(patterns: Iterable[str]) -> str:
    """Return what all names of the patterns start with, to the last slash before a brace range or glob."""
    starts = [re.split(r"[{*?\[\\]", pattern)[0] for pattern in patterns]
    literal = os.path.commonprefix(starts)  # noqa: RUF071 – of characters, because URLs are no paths
    return literal[: literal.rfind("/") + 1]


def _matches(pattern: str, options: Options) -> Iterator[str]:
    try:
        for name in braceexpand(pattern):
            _check_url(name)
            if any(sign in name for sign in MAGIC) and not os.path.isfile(name):
                yield from _glob(name, options)
                continue
            if not is_url(name) and not os.path.isfile(name):
                what = "is not a file" if os.path.exists(name) else "does not exist"
                raise UsageError(f"shards: {name} {what}" + (f" (from {pattern})" if name != pattern else ""))
            yield name
    except UnbalancedBracesError as error:
        raise UsageError(f"shards: {pattern!r} has a brace without its partner") from error


def _check_url(name: str) -> None:
    """Raise a UsageError for a URL that can do more than read a file."""
    if not is_url(name):
        return
    protocol, _, rest = name.partition("://")
    if "::" in name:
        raise UsageError(f"shards: {name!r} chains URLs with '::', which is not allowed; name the files themselves")
    if protocol not in PROTOCOLS:
        what = f"has the protocol {protocol}" if protocol else "has no protocol"
        raise UsageError(f"shards: {name!r} {what}; allowed are {', '.join(PROTOCOLS)}")
    login, at, host = rest.partition("/")[0].rpartition("@")
    if at and login:
        raise UsageError(f"shards: {protocol}://…@{host} has a login; passwords and keys come from the environment")
    if protocol in ("http", "https") and "?" in name:
        raise UsageError(f"shards: {name.partition('?')[0]}?… has a query, which may hold a key; leave it out")


def _glob(pattern: str, options: Options) -> list[str]:
    if is_url(pattern):
        system, path = file_system(pattern, options)
        # File systems return paths in a form of their own; names keep the form of the pattern.
        base = base_of([pattern])
        system_base = str(system._strip_protocol(base)).rstrip("/") + "/"
        names = [base + match.removeprefix(system_base) for match in translated(lambda: system.glob(path))]
        for name in names:
            _check_url(name)
    else:
        names = glob.glob(pattern, recursive=True)
    if not names:
        raise UsageError(f"shards: no file matches {pattern}")
    return sorted(names)


def open_url(url: str, options: Options) -> BufferedIOBase:
    """Open a file behind a URL, to be read from start to end."""
    system, path = file_system(url, options)
    size = 0 if is_web(url) else BLOCK_BYTES  # one request, which servers without ranges answer too
    file: BufferedIOBase = translated(lambda: system.open(path, "rb", block_size=size))
    return file


def describe_url(url: str, options: Options) -> tuple[int, str]:
    """Return the size of a file behind a URL, and a text that changes with its content; errors as ``open_url``.

    The text is empty if a web server says nothing of this.
    """
    system, path = file_system(url, options)
    info = translated(lambda: system.info(path))
    if info.get("size") is None:
        raise ConnectionError("the server does not say how large it is")
    versions = [str(info[key]) for key in VERSIONS if key in info]
    if not is_web(url):  # of which fsspec assumes that they never change
        versions.append(translated(lambda: str(system.ukey(path))))
    return int(info["size"]), " ".join(versions)


def read_url(url: str, start: int, length: int, options: Options) -> bytes:
    """Return bytes of a file behind a URL; more if the server only gives whole files. Errors as ``open_url``."""
    system, path = file_system(url, options)
    return bytes(translated(lambda: system.cat_file(path, start=start, end=start + length)))


def file_system(url: str, options: Options) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path in it; errors as ``open_url``."""
    from fsspec.core import url_to_fs

    arguments = dict(options)
    if is_web(url):  # so that a server that says nothing fails; the default ends large transfers, too
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
        arguments.setdefault("client_kwargs", {"timeout": timeout})
    try:
        system, path = translated(lambda: url_to_fs(url, **arguments))
    except OSError as error:
        if isinstance(error.__cause__, ImportError | ValueError):  # a protocol whose package is not installed
            raise UsageError(f"{url} cannot be read: {error.__cause__}") from error
        raise
    return system, str(path)


def is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def translated(action: Callable[[], Value]) -> Value:
    """Return the action's result; errors of client libraries become those of a file system."""
    try:
        return action()
    except (UsageError, RunFailedError):
        raise
    except Exception as error:
        # fsspec says of each error of a web server that there is no file, whatever it was.
        cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
        is_of_web = isinstance(cause, TimeoutError) or type(cause).__module__.startswith("aiohttp")
        raise _os_error(cause if cause is not None and is_of_web else error) from error


def _os_error(error: BaseException) -> OSError:
    """Return an error of a client library as one of a file system; as ConnectionError, if it can go away."""
    name, status = type(error).__name__, getattr(error, "status", None)
    if isinstance(status, int):
        words = f"the server answers {status} {getattr(error, 'message', '')}".rstrip()
        if status in GONE:
            return FileNotFoundError(errno.ENOENT, words)
        if status in DENIED:
            return PermissionError(errno.EACCES, words)
        if status in CUT_SHORT:
            return OtherContentError(words)
        return OSError(errno.EINVAL, words) if 400 <= status < 500 and status not in BUSY else ConnectionError(words)
    if isinstance(error, TimeoutError):
        return TimeoutError(str(error) or "the server does not answer")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such file")
    if isinstance(error, OSError) and not type(error).__module__.startswith("aiohttp"):
        return error
    words = f"{name}: {error}" if str(error) else name
    if name in NO_LOGIN:
        return PermissionError(errno.EACCES, words)
    return OSError(errno.EINVAL, words) if isinstance(error, ValueError) else ConnectionError(words)


class RemoteFile(NamedTuple):
    """A file behind a URL, with the size and the checksum that it had when it was indexed."""

    url: str
    size: int
    checksum: str


class CopiesFolder:
    """A folder of files that fsspec copied from URLs, limited in size, for all processes of a host.

    fsspec's own caches of files have no limit, and show a file to other processes before it is complete. A copy that a
    process has open can be deleted; the process reads it to its end.
    """

    def __init__(self, folder: Path, limit_bytes: int, options: Options) -> None:
        self._folder, self._limit_bytes, self._options = folder, limit_bytes, options
        self._ahead: Sequence[RemoteFile] = ()

    def path(self, file: RemoteFile) -> Path:
        """Return where the copy of a file is, or would be."""
        name = hashlib.sha256(f"{file.checksum} {file.size} {file.url}".encode()).hexdigest()[:40]
        return self._folder / f"aimv2-{name}.tar"

    def fetch(self, file: RemoteFile, kept_since: float = math.inf) -> Path:
        """Return the copy of a file, made if needed. Copies that were used longest ago are deleted.

        Those that were used after ``kept_since`` are not; if there is no room without them, no copy is made.
        """
        if file.size > self._limit_bytes:
            raise RunFailedError(
                "data",
                f"{file.url} has {file.size:,} bytes and does not fit into the shard cache of {self._limit_bytes:,}"
                " bytes; raise data.cache_gb",
            )
        path = self.path(file)
        self._folder.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:  # one process copies
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists() and self._has_room(file.size, kept_since):
                system, remote_path = file_system(file.url, self._options)
                partial = path.with_suffix(".part")
                translated(lambda: system.get_file(remote_path, str(partial)))
                if (size := partial.stat().st_size) != file.size:
                    raise OtherContentError(f"it has {size:,} bytes, and had {file.size:,} when it was indexed")
                partial.replace(path)
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
        return path

    def fetch_ahead(self, files: Sequence[RemoteFile]) -> None:
        """Copy files in a thread, in their order, as far as there is room; no longer those that were given before."""
        self._ahead = tuple(files)
        if files:
            threading.Thread(target=self._fetch_all, args=(self._ahead, time.time()), daemon=True).start()

    def _fetch_all(self, files: Sequence[RemoteFile], kept_since: float) -> None:
        for file in files:
            if self._ahead is not files:
                return
            # Its reader copies the file again, and meets the error.
            with contextlib.suppress(OSError, UsageError, RunFailedError):
                self.fetch(file, kept_since)

    def _has_room(self, size: int, kept_since: float) -> bool:
        """Delete copies until there is room for more bytes, and return whether there is."""
        copies = []
        for name in filter(COPY.fullmatch, os.listdir(self._folder)):
            with contextlib.suppress(FileNotFoundError):
                status = (self._folder / name).stat()
                copies.append((status.st_mtime, status.st_size, self._folder / name))
        used = size + sum(num_bytes for _, num_bytes, _ in copies)
        for modified, num_bytes, path in sorted(copies):
            if used <= self._limit_bytes or modified >= kept_since:
                break
            if path.suffix == ".tar" or modified < time.time() - ABANDONED_SECONDS:
                path.unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
                used -= num_bytes
        return used <= self._limit_bytes or kept_since == math.inf
