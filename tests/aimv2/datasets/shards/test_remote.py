import errno
import threading

import fsspec
import pytest
from aiohttp import ClientTimeout
from fsspec.implementations.memory import MemoryFileSystem

from aimv2.base.errors import UsageError
from aimv2.datasets.remote import WAITS, Patience, describe_url, open_url, read_url
from tests.helpers.shards import SIZE
from tests.helpers.web_server import serving


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


def test_parts_of_files_are_read(urls):
    assert read_url(urls[3], 10, 7, {}) == b"\3" * 7


@pytest.fixture
def web(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(range(256)) * 1000)
    with serving(tmp_path) as server:
        yield server


def test_web_servers_are_read_whole_and_in_parts(web):
    content = (web.folder / "a.tar").read_bytes()
    url = f"{web.url}/a.tar"
    with open_url(url, {}) as file:
        assert file.read() == content
    assert web.sent["/a.tar"] == len(content)
    assert read_url(url, 1000, 300, {}) == content[1000:1300]
    assert web.sent["/a.tar"] == len(content) + 300


def test_a_web_server_without_ranges_is_read_whole(web):
    web.gives_parts = False
    content = (web.folder / "a.tar").read_bytes()
    assert read_url(f"{web.url}/a.tar", 1000, 300, {}) == content
    with open_url(f"{web.url}/a.tar", {}) as file:
        assert b"".join(iter(lambda: file.read(10_000), b"")) == content


def test_a_file_of_a_web_server_that_is_replaced_has_another_version(web):
    url = f"{web.url}/a.tar"
    before = describe_url(url, {})
    assert before[0] == 256_000
    (web.folder / "a.tar").write_bytes(bytes(256_000))
    assert describe_url(url, {}) != before


@pytest.mark.parametrize("status", [500, 503])
def test_errors_of_a_web_server_are_transient(web, status):
    web.before = lambda _, number: status if number < 4 else None
    waits = []
    with Patience(waits.append).read(lambda: open_url(f"{web.url}/a.tar", {})) as file:
        assert len(file.read()) == 256_000
    assert waits


@pytest.mark.parametrize(("status", "error"), [(404, FileNotFoundError), (403, PermissionError)])
def test_a_file_that_a_web_server_does_not_give_is_not_asked_for_again(web, status, error):
    web.before = lambda *_: status
    for read in (lambda: open_url(f"{web.url}/a.tar", {}), lambda: read_url(f"{web.url}/a.tar", 0, 9, {})):
        with pytest.raises(error):
            Patience(lambda _: pytest.fail("waited")).read(read)


def test_a_web_server_that_says_nothing_fails(web):
    asleep = threading.Event()
    web.before = lambda *_: asleep.wait() and None
    options = {"client_kwargs": {"timeout": ClientTimeout(None, sock_read=0.2)}}
    for read in (lambda: open_url(f"{web.url}/a.tar", options), lambda: read_url(f"{web.url}/a.tar", 0, 9, options)):
        with pytest.raises((ConnectionError, TimeoutError)):
            read()
    asleep.set()
