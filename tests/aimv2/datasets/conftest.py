"""Shards for the tests of this folder."""

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.helpers.shards import SIZE, indexed, location, write_shards


@pytest.fixture
def shards(tmp_path):
    """Return three shards of five samples, and their records."""
    return write_shards(tmp_path), indexed(location(tmp_path))


@pytest.fixture
def urls():
    """Yield the URLs of ten files of SIZE bytes in memory, each with another content."""
    system = MemoryFileSystem()
    for number in range(10):
        system.pipe(f"/remote/{number}.tar", bytes([number]) * SIZE)
    yield [f"memory://remote/{number}.tar" for number in range(10)]
    system.rm("/remote", recursive=True)
