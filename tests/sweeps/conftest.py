import shutil
import tempfile

import pytest

from tests.helpers.finished_sweeps import finished


@pytest.fixture(scope="session")
def done(tmp_path_factory, cache_dir):
    """Return the runs folder of a finished sweep of one run and its untrained encoder."""
    runs_dir = tmp_path_factory.mktemp("done") / "runs"
    finished(runs_dir, cache_dir)
    return runs_dir


@pytest.fixture
def copied(done, tmp_path):
    """Return a copy of it, to change."""
    return shutil.copytree(done, tmp_path / "runs")


@pytest.fixture(autouse=True)
def own_slots(tmp_path_factory, monkeypatch):
    """Give a test's workers their own slots, so that they never wait for other processes on this machine."""
    folder = str(tmp_path_factory.mktemp("slots"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
