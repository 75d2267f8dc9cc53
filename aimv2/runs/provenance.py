"""The identity of the code that runs: a digest of its files, and its git commit with the uncommitted changes."""

import hashlib
import json
import subprocess
from functools import lru_cache
from pathlib import Path

from aimv2.base.errors import UsageError
from aimv2.base.files import digest_of, read_json, write_bytes
from aimv2.base.plugins import FROZEN, load_from_snapshots
from aimv2.config.program import Program

PACKAGE = Path(__file__).parents[1]
PACKAGES = ("aimv2", "ablations", "sweeps", "analysis")  # folders of a checkout; all but the first are linked into it
# Files of ``aimv2`` that cannot change a number, by the beginning of their path: a run imports none of them.
NO_NUMBERS = (
    "ablations/",
    "analysis/",
    "reports/",
    "sweeps/",
    "tools/",
    "base/archive.py",
    "cli.py",
    "__main__.py",
    "run/command.py",
    "run/options.py",
    "run/price.py",
    "run/times.py",
)
SNAPSHOTS = "code"  # in a runs folder: the code snapshots (sweeps/freeze.py), each with its commit in FROZEN
DIST_INFO = "aimv2_ablations-*.dist-info"  # beside a package that pip installed
JOINT = "+"  # between the code that trained a result's weights and the code that measured them


@lru_cache
def digest() -> str:
    """Return the digest of the imported ``aimv2`` package, without files that cannot change a number."""
    return code_digest(PACKAGE)


def code_digest(package: Path) -> str:
    """Return the digest of an ``aimv2`` package, without files that cannot change a number."""
    return digest_of(package, without=NO_NUMBERS)


def code_of_result(trained: str) -> str:
    """Return the code of a result that this code measures on weights of the code ``trained``: their digest, or
    ``TRAINED+MEASURED`` if they differ."""
    return digest() if trained == digest() else f"{trained}{JOINT}{digest()}"


@lru_cache
def git_commit(package: Path = PACKAGE) -> str:
    """Return the commit of the code, with ``+changes`` if the packages differ from it.

    Of a wheel it is the version, as ``v1.2.0``, also where it is installed within the checkout of another project.
    Elsewhere outside a checkout it is empty.
    """
    frozen = package.parent / FROZEN
    if frozen.exists():  # first: the snapshot may be inside a checkout that has moved on
        return str(json.loads(frozen.read_text())["commit"])
    if not _is_tracked(package):
        installed = [path.name.removesuffix(".dist-info").split("-")[1] for path in package.parent.glob(DIST_INFO)]
        return f"v{installed[0]}" if installed else ""
    commit = _git(package.parent, "rev-parse", "--short=12", "HEAD").decode().strip()
    return f"{commit}+changes" if commit and uncommitted(package) else commit


@lru_cache
def uncommitted(package: Path) -> bytes:
    """Return the difference of a checkout's packages from its commit, new files included, as a diff; empty if none."""
    if not _is_tracked(package):
        return b""
    root = package.parent
    ours = ("--", *PACKAGES, ":(exclude,glob)**/__pycache__/**")
    # Whatever the user's settings are, `git apply` must be able to read it.
    diff = ("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
    new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", *ours).split(b"\0")[:-1]
    changed = [_git(root, *diff, "--relative", "HEAD", *ours)]
    return b"".join(changed + [_git(root, *diff, "--no-index", "--", "/dev/null", name) for name in new])


def _is_tracked(package: Path) -> bool:
    """True if a checkout has the files of the package, which may also be installed within the checkout of another."""
    return bool(_git(package.parent, "ls-files", "--", package.name))


def keep_changes(runs_dir: Path, package: Path = PACKAGE) -> str:
    """Write the difference of the code from its commit to ``runs_dir/changes/<hash>.diff``, once; return the hash.

    It is empty if there is none; a snapshot has the hash of the difference that was kept when it was made.
    """
    frozen = package.parent / FROZEN
    if frozen.exists():
        return str(json.loads(frozen.read_text()).get("changes", ""))
    changes = uncommitted(package)
    if not changes:
        return ""
    content = f"Changes since commit {git_commit(package).removesuffix('+changes')}\n".encode() + changes
    name = hashlib.sha256(content).hexdigest()[:12]
    path = runs_dir / "changes" / f"{name}.diff"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_bytes(path, content)
    return name


def snapshots(runs_dir: Path) -> list[Path]:
    """Return the code snapshots of a runs folder, that which was used last first."""
    folders = [path.parent.resolve() for path in runs_dir.glob(f"{SNAPSHOTS}/[!.]*/{FROZEN}")]
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)


def find_plugins(config: Program, runs_dir: Path) -> None:
    """Load the plug-ins of a run from the code snapshots of its folder, unless there are others of their names; those
    that no snapshot has are left out, as of a run that no launch made."""
    load_from_snapshots(config.plugins.values(), snapshots(runs_dir))


def code_of_lost_checkpoint(run: Path) -> str:
    """Return the code that saved a run's newest checkpoint, if this code saved none: the next attempt starts at step 0.
    It is a digest, or ``unknown``; empty if there is no checkpoint, or one of this code."""
    saved = sorted(run.glob("attempts/*/checkpoint/*"), reverse=True)
    codes = [recorded_code(path.parents[1]) for path in saved]
    return codes[0] if codes and digest() not in codes else ""


def saved_step(run: Path) -> int:
    """Return the step of the newest checkpoint of a run that this code saved; 0 if there is none."""
    saved = run.glob("attempts/*/checkpoint/*")
    return max((int(path.name) for path in saved if recorded_code(path.parents[1]) == digest()), default=0)


def recorded_code(attempt: Path) -> str:
    """Return the digest of an attempt's code; ``unknown`` if that cannot be read, since displays must not fail."""
    try:
        return str(read_json(attempt / "manifest.json")["code"])
    except (UsageError, KeyError, TypeError):
        return "unknown"


def _git(folder: Path, *command: str | bytes) -> bytes:
    """Return the output of a git command; empty if there is no git, no checkout or no commit."""
    try:
        # It writes nothing, not even what it learns about unchanged files.
        done = subprocess.run(["git", "--no-optional-locks", *command], cwd=folder, capture_output=True, check=False)
    except OSError:
        return b""
    return done.stdout if done.returncode < 2 else b""  # diff --no-index returns 1 where it finds a difference
