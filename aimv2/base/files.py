"""Atomic writes, YAML, users of a shared folder, and checks that a folder can be used."""

import contextlib
import errno
import getpass
import hashlib
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from aimv2.base.errors import UsageError, short

NUM_TRIES = 20  # of a folder that other processes replace at the same time
NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS)  # where a file system has no hard links


@contextlib.contextmanager
def replacing(path: Path, *, partial: Path | None = None, only_new: bool = False) -> Iterator[Path]:
    """Yield a temporary path; the file or folder that is written there takes its place at the end, whole or not at all.

    After an error it is deleted, and what was in its place is still there.
    """
    partial = partial or beside(path)
    try:
        yield partial
        if partial.is_file():
            sync(partial)
        if only_new or partial.is_file():
            partial.replace(path)
        else:
            replace_folder(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                partial.unlink()


def beside(path: Path) -> Path:
    """Return a new hidden name beside a path. Process ids would repeat on hosts that share the folder."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def replace_folder(new: Path, path: Path) -> None:
    """Move a finished folder to its place, even if other processes do so at the same time; the folder that is there is
    deleted, or stays if the new one cannot be moved."""
    for number in range(NUM_TRIES):
        old = beside(path)
        try:
            with contextlib.suppress(FileNotFoundError):
                path.rename(old)
            new.rename(path)
        except BaseException as error:
            if old.exists() and not path.exists():
                with contextlib.suppress(OSError):  # another process was faster
                    old.rename(path)
            is_taken = isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            if not is_taken or number == NUM_TRIES - 1:
                raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, values: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def create_json(path: Path, values: Any) -> bool:
    """Write a JSON file, whole or not at all, unless there is one. Return True for one process only."""
    partial = beside(path)
    try:
        write_json(partial, values)
        os.link(partial, path)
    except FileExistsError:
        return partial.samefile(path)  # NFS may repeat a link that was made
    finally:
        partial.unlink(missing_ok=True)
    return True


def write_text(path: Path, text: str) -> None:
    """Write a file atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({error}); delete the file and run the command again") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as JSON") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold a JSON object, not {short(values)}")
    return values


def share(folder: Path) -> None:
    """If the group may write to the folder, let it write to all files that this process creates from now on. Before the
    folder exists, its closest existing parent decides, which must also pass its group on (setgid)."""
    path = folder.absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    needed = stat.S_IWGRP if existing == path else stat.S_IWGRP | stat.S_ISGID
    if existing.stat().st_mode & needed == needed:
        os.umask(os.umask(0) & ~stat.S_IRWXG)


def user() -> str:
    """Return the name of this process's user, or its number if it has no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def writable_folder(path: str, key: str, *, needs_links: bool = False) -> Path:
    """Create the folder that a key sets, check that it can be written and, if asked, linked in, and return it."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writable-", dir=folder, ignore_cleanup_errors=True) as probe:
            file, other = Path(probe, "file"), Path(probe, "folder")
            file.write_bytes(b"x" * 65536)
            other.mkdir()
            if needs_links:
                os.link(file, other / "file")
    except OSError as error:
        problem = "cannot be written"
        if error.filename2 and error.errno in NO_LINKS:  # only a link has two names
            problem = "is on a file system without hard links across folders (BeeGFS before 7.4, for example)"
        raise UsageError(f"{key}={path!r} {problem}: {error.strerror}") from error
    return folder


def check_new(folder: Path) -> None:
    """Refuse the target of a command, ``to=``, that has files already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"to={str(folder)!r} exists and is not an empty folder; choose a new one")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # the package has no types
    """YAML without keys that are given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := next((key for place, key in enumerate(keys) if key in keys[:place]), None):
            raise yaml.constructor.ConstructorError(None, None, f"{twice} is given twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def to_yaml(values: Any, *, width: int = 120) -> str:
    """Return JSON values as YAML, with letters of any language as they are."""
    # PyYAML also writes breaks of lines such as U+0085 as they are, and then loses them; values with such are escaped.
    is_printable = json.dumps(values, ensure_ascii=False).isprintable()
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=is_printable, width=width))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the keys of a YAML file."""
    try:
        values = yaml.load(path.read_text(), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must contain keys with values, such as shards: /data/{{000..099}}.tar")
    return values


def digest_of(folder: Path, without: Collection[str] = ()) -> str:
    """Hash the paths and content of a folder's files to 12 hex digits, but for Python's caches and ``without``."""
    whole = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and not name.startswith(tuple(without)):
            content = path.read_bytes()
            whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:12]
