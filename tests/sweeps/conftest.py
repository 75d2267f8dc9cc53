import tempfile

import pytest


@pytest.fixture(autouse=True)
def seats_of_its_own(tmp_path_factory, monkeypatch):
    """Workers of a test wait for none that something else on this machine has."""
    folder = str(tmp_path_factory.mktemp("seats"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
