"""Pages for users without a clone are followed with the code of the wheel."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.helpers.wheel import build_wheel, environment_of


@pytest.fixture(scope="session")
def by_wheel(tmp_path_factory):
    """A function that runs Python with the wheel in the place of the clone; it returns the exit status and output."""
    own = environment_of(build_wheel(tmp_path_factory.mktemp("build")), tmp_path_factory.mktemp("wheel"))

    def run(words, folder):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env=os.environ | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return run


@pytest.fixture(scope="session")
def succeeds(by_wheel):
    """A function that runs a command of ``aimv2`` by the wheel, which must succeed, and returns its output."""

    def run(words, folder):
        status, output = by_wheel(["-m", "aimv2", *words], folder)
        assert status == 0, f"{shlex.join(words)}\n{output}"
        return output

    return run
