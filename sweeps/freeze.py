"""What workers run: a copy, made at launch, so that editing while runs wait changes nothing."""

import json
import os
import shutil
import uuid
from functools import lru_cache
from pathlib import Path

from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.provenance import FROZEN, digest_of, git_commit
from aimv2.runs.versions import LOCK

SOURCE = Path(__file__).parents[1]
PACKAGES = ("aimv2", "ablations", "sweeps", "analysis")


def variables(run: RunConfig) -> dict[str, str]:
    """For workers that do runs like this one, beside the way to the copy: as many threads as said in every library, no
    tokenizer pool beside them, and no imports from the folder that they stand in."""
    libraries = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(libraries, str(run.threads)) | {"TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1"}


@lru_cache  # once a launch, however often it starts workers
def freeze(runs_dir: Path) -> Path:
    """Copy the packages, as they lie beside each other, to ``runs_dir/code/<digest>``.

    The digest is of all that is in the copy: the packages' files and the commit that they are at. A copy that is there
    already is used again.

    Raises:
        UsageError: a file of the copy that is there was changed since.
    """
    partial = runs_dir / "code" / f".{uuid.uuid4().hex}"
    try:
        for package in PACKAGES:
            _copy(SOURCE / package, partial / package)
        if (SOURCE / LOCK).exists():
            shutil.copyfile(SOURCE / LOCK, partial / LOCK)
        (partial / FROZEN).write_text(json.dumps({"commit": git_commit()}) + "\n")
        # The copy's own digest: the source may be edited at this moment.
        frozen = partial.with_name(digest_of(partial))
        if not frozen.exists():
            _rename(partial, frozen)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if digest_of(frozen) != frozen.name:
        raise UsageError(f"{frozen}, the code that workers run, was changed; delete it to have it made again")
    os.utime(frozen)  # for prune, which leaves alone what was used lately
    return frozen.resolve()


def _copy(package: Path, to: Path) -> None:
    """Copy a package's files; their modes are the umask's, so whoever shares the folder can delete them too."""
    for path in sorted(package.rglob("*")):
        place = path.relative_to(package)
        if path.is_file() and "__pycache__" not in place.parts:
            copied = to / place
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)


def _rename(partial: Path, frozen: Path) -> None:
    try:
        partial.rename(frozen)
    except OSError:
        if not frozen.exists():  # else another launch was faster
            raise
