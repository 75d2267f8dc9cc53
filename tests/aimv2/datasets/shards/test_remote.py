import errno

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from aimv2.base.errors import UsageError
from aimv2.datasets.shards.remote import WAITS, Patience, describe_url, open_url

SIZE = 1000


@pytest.fixture
def urls():
    """Return the URLs of ten files in memory, each with another content."""
    system = MemoryFileSystem()
    for number in range(10):
        system.pipe(f"/remote/{number}.tar", bytes([number]) * SIZE)
    yield [f"memory://remote/{number}.tar" for number in range(10)]
    system.rm("/remote", recursive=True)


def fail_times(count, error):
    """Return an action that fails some times and then returns 7."""
    left = [error] * count

    def action():
        if left:
            raise left.pop()
        return 7

    return action


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, ""),
        OSError(errno.ESTALE, ""),
        TimeoutError(),
        ConnectionResetError(),
        BlockingIOError(errno.EAGAIN, ""),
    ],
)
def test_transient_errors_are_retried_with_longer_waits_and_counted(error):
    waits = []
    patience = Patience(waits.append)
    assert patience.read(fail_times(len(WAITS), error)) == 7
    assert waits == list(WAITS) == sorted(waits)
    assert patience.retries == len(WAITS)


def test_after_the_last_wait_the_error_is_raised():
    patience = Patience(lambda _: None)
    with pytest.raises(OSError, match="disk"):
        patience.read(fail_times(len(WAITS) + 1, OSError(errno.EIO, "disk")))
    assert 3 < sum(WAITS) < 30


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(errno.ENOENT, "gone"), PermissionError(errno.EACCES, "gone"), OSError(errno.ENOSPC, "gone")],
)
def test_lasting_errors_are_raised_at_once(error):
    patience = Patience(lambda _: pytest.fail("waited"))
    with pytest.raises(OSError, match="gone"):
        patience.read(fail_times(1, error))


def test_urls_are_read_and_described(urls, tmp_path):
    with open_url(urls[3], {}) as file:
        assert file.read() == b"\3" * SIZE
    assert describe_url(urls[3], {})[0] == SIZE
    local = tmp_path / "a.tar"
    local.write_bytes(b"1")
    before = describe_url(f"file://{local}", {})
    local.write_bytes(b"22")
    assert describe_url(f"file://{local}", {}) != before
    with pytest.raises(FileNotFoundError):
        open_url("memory://remote/none.tar", {})


def test_an_unknown_kind_of_url_is_one_sentence():
    with pytest.raises(UsageError, match=r"nosuch://a.tar cannot be read: Protocol not known"):
        open_url("nosuch://a.tar", {})


def test_errors_of_client_libraries_are_transient():
    class Broken(MemoryFileSystem):
        protocol = "broken"

        def open(self, *_, **__):
            raise RuntimeError("the client's own error")

    fsspec.register_implementation("broken", Broken, clobber=True)
    with pytest.raises(ConnectionError, match="the client's own error"):
        open_url("broken://a.tar", {})
