"""The code snapshot that workers import: made at launch, so that later edits do not reach waiting runs."""

import json
import os
import shutil
import sys
import uuid
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.provenance import (
    CHANGES,
    FROZEN,
    LOCK,
    PACKAGES,
    code_digest,
    digest,
    digest_of,
    git_commit,
    recorded_digests,
    uncommitted,
)

FOLDER = "code"
PARTIAL = ".snapshot-"  # beginning of the name of an unfinished snapshot
SOURCE = Path(__file__).parents[1]
CODE = "code="  # the argument of a launch that names a snapshot


def worker_environment(run: RunConfig) -> dict[str, str]:
    """Return the environment variables of workers that do runs like this one: the run's number of threads for every
    library, no tokenizer threads, and no imports from the current directory."""
    libraries = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(libraries, str(run.threads)) | {"TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1"}


@lru_cache  # one snapshot per launch, however often it starts workers
def freeze(runs_dir: Path, source: Path = SOURCE) -> Path:
    """Copy the packages to ``runs_dir/code/<digest>`` and return that folder.

    The digest covers all files of the snapshot, with the commit and what differs from it. An existing snapshot is used
    again, and code that runs from a snapshot of this folder is that snapshot.

    Raises:
        UsageError: a file of the existing snapshot was changed.
    """
    source, code = source.resolve(), (runs_dir / FOLDER).resolve()
    frozen = source if source.parent == code else _copied(source, code)
    if digest_of(frozen) != frozen.name:
        raise UsageError(f"the code snapshot {frozen} was changed; delete it and launch again")
    os.utime(frozen)  # prune keeps snapshots that were used lately
    return frozen


def _copied(source: Path, code: Path) -> Path:
    partial = code / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        files = (path for package in PACKAGES for path in (source / package).rglob("*"))
        for path in [source / LOCK, *files]:
            copy = partial / path.relative_to(source)
            if path.is_file() and "__pycache__" not in path.parts:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)  # with the umask's mode, so that others who share the folder can delete it
        (partial / FROZEN).write_text(json.dumps({"commit": git_commit(source / "aimv2")}) + "\n")
        if changes := uncommitted(source / "aimv2"):
            (partial / CHANGES).write_bytes(changes)
        # The digest of the copy, since the source may be edited at this moment.
        frozen = partial.with_name(digest_of(partial))
        try:
            partial.rename(frozen)
        except OSError:
            if not frozen.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return frozen


def become_code(arguments: Sequence[str]) -> None:
    """If ``code=DIGEST`` names other code than this, become the same launch by the snapshot that was used last.

    Args:
        arguments: those of ``launch.py``. The digest may be shortened.

    Raises:
        UsageError: ``runs_dir`` has no such snapshot.
    """
    values = {"runs_dir": "runs"} | {key: value for key, _, value in (word.partition("=") for word in arguments)}
    code, folder = values.get("code"), Path(values["runs_dir"]) / "code"
    if code is None or (code and digest().startswith(code)):
        return
    there = []
    snapshots = [path for path in folder.glob("[!.]*") if (path / FROZEN).is_file()]
    for snapshot in sorted(snapshots, key=lambda path: -path.stat().st_mtime):
        there.append(code_digest(snapshot / "aimv2"))
        if code and any(one.startswith(code) for one in recorded_digests(snapshot / "aimv2")):
            _become(snapshot.resolve(), [word for word in arguments if not word.startswith(CODE)])
    known = ", ".join(dict.fromkeys(there)) or "none"
    raise UsageError(f"code={code}: no snapshot in {str(folder)!r} has a digest that begins so; there: {known}")


def _become(snapshot: Path, arguments: Sequence[str]) -> NoReturn:
    path = os.pathsep.join(filter(None, [str(snapshot), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, str(snapshot / "sweeps" / "launch.py"), *arguments]
    sys.stdout.flush()
    os.execve(sys.executable, command, os.environ | {"PYTHONPATH": path})
