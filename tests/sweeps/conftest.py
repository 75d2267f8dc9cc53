import pytest


@pytest.fixture(autouse=True)
def seats_of_its_own(tmp_path_factory, monkeypatch):
    """Workers of a test wait for none that something else on this machine has."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("seats")))
