"""``make`` installs the locked versions, or the newest with LATEST=1; Python is a stub that records its arguments."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUB = """#!/bin/sh
echo "$0 $*" >> "$(dirname "$0")/calls"
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip install "*) exit "${PIP_STATUS:-0}" ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """A function that runs make with the stub, returns its process, and the arguments of every pip install."""
    python = tmp_path / "python"
    python.write_text(STUB)
    python.chmod(0o755)

    def run(*arguments, pip_status=0):
        inherited = ("MAKE", "MFLAGS", "LATEST", "PYTHON")  # of the make that runs these tests
        environment = {key: value for key, value in os.environ.items() if not key.startswith(inherited)}
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
        done = subprocess.run(
            ["make", *arguments, f"PYTHON={python}"],
            cwd=tmp_path,
            env=environment | {"PIP_STATUS": str(pip_status)},
            capture_output=True,
            text=True,
        )
        calls = [line for file in tmp_path.glob(".venv*/bin/calls") for line in file.read_text().splitlines()]
        return done, [call.partition(" -m pip install ") for call in calls if " -m pip install " in call]

    return run


@pytest.mark.parametrize(("target", "num_installs"), [("demo", 1), ("test", 2), ("test-all", 2), ("docs", 2)])
def test_make_installs_the_locked_versions(make, target, num_installs):
    done, installs = make(target)
    assert (done.returncode, len(installs)) == (0, num_installs), done.stderr
    for python, _, arguments in installs:
        assert python == ".venv/bin/python"
        assert "--constraint constraints.txt" in arguments


def test_make_with_latest_installs_the_newest_versions_elsewhere(make):
    done, installs = make("test", "LATEST=1")
    assert (done.returncode, len(installs)) == (0, 2), done.stderr
    for python, _, arguments in installs:
        assert python == ".venv-latest/bin/python"
        assert "--constraint" not in arguments
        assert "--upgrade --upgrade-strategy eager" in arguments


def test_make_installs_again_only_when_the_versions_may_have_changed(make, tmp_path):
    assert len(make("demo")[1]) == 1
    (tmp_path / ".venv/.installed").touch()
    os.utime(tmp_path / ".venv/.installed", (2**32, 2**32))  # newer than the copied files
    assert len(make("demo")[1]) == 1
    os.utime(tmp_path / ".venv/.installed", (0, 0))
    assert len(make("demo")[1]) == 2
    make("demo", "LATEST=1")
    assert len(make("demo", "LATEST=1")[1]) == 4, "the newest versions may have changed at any time"


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_says_what_to_type_when_a_locked_version_cannot_be_installed(make, target):
    done, _ = make(target, pip_status=3)
    assert done.returncode != 0
    assert f"make {target} LATEST=1" in done.stderr
    assert "constraints.txt" in done.stderr
    latest, _ = make(target, "LATEST=1", pip_status=3)
    assert latest.returncode != 0
    assert "constraints.txt" not in latest.stderr
