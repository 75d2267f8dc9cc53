"""Files behind URLs, and reads that outlast faults of a file system or network."""

import errno
import time
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from typing import Any, TypeVar

from aimv2.base.errors import UsageError

WAITS = (0.1, 0.4, 1.5, 4.0)  # seconds before each new attempt
TRANSIENT = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EBUSY,  # s3fs: the server is busy (503, SlowDown)
    errno.EREMOTEIO,  # s3fs: another error of the server
}
CHUNK = 16 << 20  # bytes of a request, where a file is read in several
CONNECT_SECONDS, SILENT_SECONDS = 30, 60  # after which a web server has failed; s3fs and gcsfs have limits of their own
# Status codes of HTTP; others from 400 to 499 are not asked for again, those from 500 on are.
GONE, DENIED, CUT_SHORT, BUSY = (404, 410), (401, 403), (416,), (408, 425, 429)
NO_LOGIN = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
SILENT = "the server does not answer"
VERSIONS = ("ETag", "Content-MD5", "Digest", "Last-Modified")  # what a web server says of a content

Options = Mapping[str, Any]  # of a file system, as fsspec takes them
Value = TypeVar("Value")


class OtherContentError(ConnectionError):
    """What was transferred is not what was indexed: it was cut short, the network erred, or the shard has changed."""


class Patience:
    """Attempts at reads that can fail for a moment.

    Attributes:
        retries: attempts that were repeated.
    """

    def __init__(self, sleep: Callable[[float], object] = time.sleep) -> None:
        self.retries = 0
        self._sleep = sleep

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


def open_url(url: str, options: Options) -> BufferedIOBase:
    """Open a file behind a URL, to be read from start to end.

    Raises:
        UsageError: no installed package reads this kind of URL.
        OSError: the file cannot be read; ConnectionError for errors of the client library.
    """
    system, path = file_system(url, options)
    size = 0 if is_web(url) else CHUNK  # one request, which servers without ranges answer too
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

    try:
        system, path = url_to_fs(url, **(_timeouts(url) | dict(options)))
    except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is not installed
        raise UsageError(f"{url} cannot be read: {error}") from error
    except Exception as error:
        raise error if isinstance(error, OSError) else _os_error(error) from error
    return system, str(path)


def is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _timeouts(url: str) -> dict[str, Any]:
    """Return options by which a server that says nothing fails. The default ends large transfers, too."""
    if not is_web(url):
        return {}
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)}}


def translated(action: Callable[[], Value]) -> Value:
    """Return the action's result; errors of client libraries become those of a file system."""
    try:
        return action()
    except FileNotFoundError as error:
        # fsspec says this of each error of a web server, whatever it was.
        cause = error.__cause__
        if isinstance(cause, TimeoutError):
            raise TimeoutError(str(cause) or SILENT) from error
        if cause is not None and type(cause).__module__.startswith("aiohttp"):
            raise _os_error(cause) from error
        raise FileNotFoundError(errno.ENOENT, "there is no such file") from error
    except TimeoutError as error:
        raise TimeoutError(str(error) or SILENT) from error
    except UsageError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and not type(error).__module__.startswith("aiohttp"):
            raise
        raise _os_error(error) from error


def _os_error(error: BaseException) -> OSError:
    """Return an error of a client library as one of a file system; as ConnectionError, if it can go away."""
    name, status = type(error).__name__, getattr(error, "status", None)
    if not isinstance(status, int):
        words = f"{name}: {error}" if str(error) else name
        if name in NO_LOGIN:
            return PermissionError(errno.EACCES, words)
        return OSError(errno.EINVAL, words) if isinstance(error, ValueError) else ConnectionError(words)
    words = f"the server answers {status} {getattr(error, 'message', '')}".rstrip()
    if status in GONE:
        return FileNotFoundError(errno.ENOENT, words)
    if status in DENIED:
        return PermissionError(errno.EACCES, words)
    if status in CUT_SHORT:
        return OtherContentError(words)
    return OSError(errno.EINVAL, words) if 400 <= status < 500 and status not in BUSY else ConnectionError(words)
