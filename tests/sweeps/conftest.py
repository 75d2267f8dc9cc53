import tempfile

import pytest


@pytest.fixture(autouse=True)
def own_slots(tmp_path_factory, monkeypatch):
    """Give a test's workers their own slots, so that they never wait for other processes on this machine."""
    folder = str(tmp_path_factory.mktemp("slots"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
