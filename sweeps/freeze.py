"""The code that workers run: a copy, made at launch, so that editing while runs wait changes nothing."""

import json
import os
import shutil
import uuid
from functools import lru_cache
from pathlib import Path

from aimv2.code import FROZEN, digest_of, git_commit
from aimv2.errors import UsageError

SOURCE = Path(__file__).parents[1]
PACKAGES = ("aimv2", "ablations", "sweeps", "analysis")


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
            shutil.copytree(SOURCE / package, partial / package, ignore=shutil.ignore_patterns("__pycache__"))
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


def _rename(partial: Path, frozen: Path) -> None:
    try:
        partial.rename(frozen)
    except OSError:
        if not frozen.exists():  # else another launch was faster
            raise
