"""Pages for users without a clone are followed with the code of the wheel, others in this process."""

import os
import runpy
import shlex
import subprocess
import sys

import pytest

from tests.helpers.pages import ROOT
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


@pytest.fixture
def in_process(tmp_path, monkeypatch, capsys):
    """A function that runs a script or a module in this process, in an empty folder without sbatch.

    It returns the exit status and the output; the status is None if the program does not exit with one.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def run(arguments):
        is_module, status = arguments[0] == "-m", None
        own = arguments[1:] if is_module else arguments
        monkeypatch.setattr(sys, "argv", own)
        if is_module:  # as in a new process, whatever other tests have imported
            monkeypatch.delitem(sys.modules, f"{own[0]}.__main__", raising=False)
        try:
            if is_module:
                runpy.run_module(own[0], run_name="__main__")
            else:
                runpy.run_path(own[0] if os.path.exists(own[0]) else str(ROOT / own[0]), run_name="__main__")
        except SystemExit as ended:
            status = ended.code or 0
        return status, "".join(capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def succeeds(by_wheel):
    """A function that runs a command of ``aimv2`` by the wheel, which must succeed, and returns its output."""

    def run(words, folder):
        status, output = by_wheel(["-m", "aimv2", *words], folder)
        assert status == 0, f"{shlex.join(words)}\n{output}"
        return output

    return run
