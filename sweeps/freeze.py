"""The code snapshot that workers import: made at launch, so that later edits do not reach waiting runs."""

import json
import os
import shutil
import uuid
from functools import lru_cache
from pathlib import Path

from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.provenance import FROZEN, LOCK, digest_of, git_commit

FOLDER = "code"
PARTIAL = ".snapshot-"  # beginning of the name of an unfinished snapshot
SOURCE = Path(__file__).parents[1]
PACKAGES = ("aimv2", "ablations", "sweeps", "analysis")


def worker_environment(run: RunConfig) -> dict[str, str]:
    """Return the environment variables of workers that do runs like this one: the run's number of threads for every
    library, no tokenizer threads, and no imports from the current directory."""
    libraries = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(libraries, str(run.threads)) | {"TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1"}


@lru_cache  # one snapshot per launch, however often it starts workers
def freeze(runs_dir: Path, source: Path = SOURCE) -> Path:
    """Copy the packages to ``runs_dir/code/<digest>`` and return that folder.

    The digest covers all files of the snapshot, with the commit. An existing snapshot is used again.

    Raises:
        UsageError: a file of the existing snapshot was changed.
    """
    partial = runs_dir / FOLDER / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        files = (path for package in PACKAGES for path in (source / package).rglob("*"))
        for path in [source / LOCK, *files]:
            copy = partial / path.relative_to(source)
            if path.is_file() and "__pycache__" not in path.parts:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)  # with the umask's mode, so that others who share the folder can delete it
        (partial / FROZEN).write_text(json.dumps({"commit": git_commit()}) + "\n")
        # The digest of the copy, since the source may be edited at this moment.
        frozen = partial.with_name(digest_of(partial))
        try:
            partial.rename(frozen)
        except OSError:
            if not frozen.exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if digest_of(frozen) != frozen.name:
        raise UsageError(f"the code snapshot {frozen} was changed; delete it and launch again")
    os.utime(frozen)  # prune keeps snapshots that were used lately
    return frozen.resolve()
