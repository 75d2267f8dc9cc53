"""What docs/extend.md adds to a clone, followed step by step on a copy of the source."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pages import ROOT, blocks, cheap, commands

PAGE = ROOT / "docs" / "extend.md"
START = "\n## In a clone\n"
PACKAGES = ("aimv2", "ablations", "sweeps", "analysis")
NEW_FILE = re.compile(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the source with every file and every change of the page."""
    copy = tmp_path_factory.mktemp("adding")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    files = NEW_FILE.findall(PAGE.read_text().split(START)[1])
    assert files
    for path, text in files:
        (copy / path).write_text(text)
    for change in blocks(PAGE, ["diff"]):
        applied = subprocess.run(["git", "apply", "-C1"], cwd=copy, input=change, capture_output=True, text=True)
        assert applied.returncode == 0, f"{applied.stderr}\n{change}"
    return copy


@pytest.fixture
def entered(source, cache_dir):
    """A function that runs a command of the page on that copy, cheaply, and returns its output."""

    def run(words):
        program, *arguments = cheap(words)
        assert program == "python"
        if "dry_run=true" in arguments:
            arguments.append(f"data.cache_dir={cache_dir}")
        variables = os.environ | {
            "PYTHONPATH": str(source),
            "PATH": str(Path(sys.executable).parent),  # without sbatch
            "COLUMNS": "200",
        }
        done = subprocess.run([sys.executable, *arguments], cwd=source, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def only(*parts):
    """The one command of the page in which these parts occur."""
    (words,) = [words for words in commands(PAGE) if all(part in shlex.join(words) for part in parts)]
    return words


@pytest.mark.exhaustive
def test_new_study_is_planned_as_it_is_written(entered):
    plan = entered(only("sweep=flip", "sweep.seeds=1"))
    assert "augment.flip_probability=0" in plan
    for text in ("half", "never", "640"):
        assert text in plan
