"""The wheel of this source, and commands that run from it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("aimv2", "ablations", "analysis", "sweeps", "reports", "pyproject", "README", "LICENSE")


def build_wheel(folder):
    """Build the wheel from a copy, because setuptools takes what it finds in build/; return its path."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(lambda name: name.startswith(PARTS), tracked.splitlines()):
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target, follow_symlinks=False)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run([*build, folder / "source"], check=True)
    return next(folder.glob("*.whl"))


def environment_of(wheel, folder):
    """Unpack a wheel into a folder; return the variables of processes that import it in the place of the clone."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", "COLUMNS": "200"}
