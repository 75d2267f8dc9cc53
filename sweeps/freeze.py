"""The code snapshot that workers import: made at launch, so that later edits do not reach waiting runs."""

import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from aimv2.base import plugins
from aimv2.base.errors import UsageError, unknown
from aimv2.base.files import digest_of
from aimv2.base.plugins import FROZEN
from aimv2.base.processes import imports_from
from aimv2.config.arguments import key_values
from aimv2.config.program import Program
from aimv2.memory.machine import CORES
from aimv2.runs.provenance import (
    PACKAGE,
    SNAPSHOTS,
    code_digest,
    digest,
    git_commit,
    keep_changes,
    snapshots,
)

FOLDER = SNAPSHOTS
PARTIAL = ".snapshot-"  # beginning of the name of an unfinished snapshot
NAME = re.compile(rf"({re.escape(PARTIAL)})?[0-9a-f]{{12}}")
COMMITTED = "reports/published/sensitivity*/sensitivity.json"  # reports read these (analysis/judgement/sensitivity.py)
CODE = "code="  # the argument of a launch that names a snapshot


def worker_environment(run: Program, cores: int) -> dict[str, str]:
    """Return the environment variables of workers that do runs like this one, with so many cores for each rank."""
    libraries = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    own = {"TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1", CORES: str(cores)}
    return dict.fromkeys(libraries, str(run.threads)) | own


def freeze(runs_dir: Path, package: Path = PACKAGE) -> Path:
    """Copy the package to ``runs_dir/code/<digest of all files>`` and return that folder; keep what differs from the
    commit. Plug-ins of this process and the committed findings of sensitivity studies, which reports read, are copied
    too. An existing snapshot is used again, and code that runs from a snapshot of this folder is that snapshot.
    """
    return snapshot(runs_dir.resolve(), package, tuple(one.id for one in plugins.loaded()))


@lru_cache  # one snapshot per launch, however often it starts workers
def snapshot(runs_dir: Path, package: Path, ids: tuple[str, ...]) -> Path:
    """Return the snapshot as ``freeze`` makes it, of the plug-ins with these ids."""
    package, code = package.resolve(), runs_dir / FOLDER
    frozen = package.parent if package.parents[1] == code else _copied(package, code)
    if digest_of(frozen) != frozen.name:
        raise UsageError(f"the code snapshot {frozen} was changed; delete it and launch again")
    os.utime(frozen)  # of several snapshots of a code, the one that was used last counts
    return frozen


def _copied(package: Path, code: Path) -> Path:
    partial = code / f"{PARTIAL}{uuid.uuid4().hex[:12]}"
    try:
        partial.mkdir(parents=True)
        about = {"commit": git_commit(package), "changes": keep_changes(code.parent, package)}
        (partial / FROZEN).write_text(json.dumps(about) + "\n")
        for path in [*_files(package), *package.glob(COMMITTED)]:
            copy = partial / path.relative_to(package.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)  # with the umask's mode, so that others who share the folder can delete it
        plugins.freeze(partial)
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


def _files(package: Path) -> Iterator[Path]:
    """Yield the files of the package, those of linked folders too; reports are no code."""
    for folder, folders, names in os.walk(package, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__" and Path(folder, name) != package / "reports"]
        yield from filter(Path.is_file, (Path(folder, name) for name in names))


def become_code(arguments: Sequence[str]) -> None:
    """If ``code=DIGEST`` names other code than this, become the same launch by its snapshot, the one used last."""
    words = [word for word in arguments if not word.startswith(CODE)]
    code = key_values([word for word in arguments if word.startswith(CODE)], ["code"]).get("code")
    if code in (None, digest()):
        return
    runs_dir = Path(next((word.partition("=")[2] for word in words if word.startswith("runs_dir=")), "runs"))
    found = dict[str, list[Path]]()
    for path in snapshots(runs_dir):
        found.setdefault(code_digest(path / "aimv2"), []).append(path)
    if code not in found:
        raise unknown("code", code, found)
    given = {one.id for one in plugins.loaded()}
    chosen = next((path for path in found[code] if given <= {one.id for one in plugins.frozen(path)}), None)
    if chosen is None:
        raise UsageError(f"{CODE}{code}: no snapshot of it has {', '.join(sorted(given))}; leave out plugins=")
    sys.stdout.flush()
    command = [sys.executable, "-m", "aimv2.sweeps.launch", *words]
    os.execve(sys.executable, command, os.environ | imports_from(chosen))
