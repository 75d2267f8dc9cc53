"""Names and patterns of files; files behind URLs, and copies of them."""

import errno
import math
import multiprocessing
import os
import queue
import threading
import time
import zlib

import fsspec
import pytest
from aiohttp import ClientTimeout
from fsspec.implementations.memory import MemoryFileSystem

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.processes import in_threads
from aimv2.datasets.remote import (
    WAITS,
    CopiesFolder,
    Patience,
    RemoteFile,
    base_of,
    describe_url,
    expand,
    open_url,
    read_url,
)
from tests.helpers.own_data import write
from tests.helpers.shards import SIZE
from tests.helpers.web_server import serving


@pytest.fixture
def folder(tmp_path):
    for name in ("000.tar", "001.tar", "002.tar", "sub/009.tar", "sub/a[1].tar", "other/a::b.tar", "notes.txt"):
        write(tmp_path / name, "")
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["{000..002}.tar"], ["000.tar", "001.tar", "002.tar"]),
        (["{002..000}.tar"], ["002.tar", "001.tar", "000.tar"]),
        (["{000,002}.tar"], ["000.tar", "002.tar"]),
        (["*.tar"], ["000.tar", "001.tar", "002.tar"]),
        (["00[02].tar", "{000..001}.tar"], ["000.tar", "002.tar", "001.tar"]),
        (["**/009.tar"], ["sub/009.tar"]),
        (["sub/a[1].tar"], ["sub/a[1].tar"]),
        (["other/a::b.tar"], ["other/a::b.tar"]),
        (["{sub/*,000}.tar"], ["sub/009.tar", "sub/a[1].tar", "000.tar"]),
    ],
)
def test_patterns_are_expanded_in_order_without_repetitions(folder, patterns, names):
    assert expand(f"{folder}/{pattern}" for pattern in patterns) == [f"{folder}/{name}" for name in names]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ([], "the list is empty"),
        (["{000..003}.tar"], r"003.tar does not exist \(from .*\{000..003\}.tar\)"),
        (["009.tar"], r"009.tar does not exist$"),
        (["sub"], "sub is not a file"),
        (["*.tgz"], r"no file matches .*\*.tgz"),
        (["{000..002.tar"], "brace without its partner"),
        (["a|b.tar"], "is a pipe, which would run a command"),
        (["{0..99999999999}*.tar"], "are more than 10,000,000 files"),
        (["{a,b}" * 30], "are more than 10,000,000 files"),
        (["{0..99999}{0..99999}.tar"], "are more than 10,000,000 files"),
    ],
)
def test_wrong_patterns_are_one_clear_sentence(folder, patterns, message):
    with pytest.raises(UsageError, match=message):
        expand(f"{folder}/{pattern}" for pattern in patterns)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("pipe:aws s3 cp s3://bucket/a.tar -", "is a pipe"),
        ("simplecache::memory://patterns/a.tar", "chains URLs"),
        ("zip://*.tar::memory://patterns/a.zip", "chains URLs"),
        ("memory://patterns/{a,b::s3://c}.tar", "chains URLs"),
        ("memory://patterns/*::a.tar", "chains URLs"),
        ("sftp://host/{0..2}.tar", "has the protocol sftp; allowed are file, gcs, gs, hf, http, https,"),
        ("github://a:b@/*.tar", "has the protocol github"),
        ("{memory,ssh}://patterns/0.tar", "has the protocol ssh"),
        ("MEMORY://patterns/0.tar", "has the protocol MEMORY"),
        ("://patterns/0.tar", "has no protocol"),
        ("https://user:secret@host/0.tar", "https://…@host has a login"),
        ("s3://KEY:secret@bucket/0.tar", "s3://…@bucket has a login"),
        ("https://host/0.tar?sig=secret", r"https://host/0.tar\?… has a query"),
    ],
)
def test_urls_that_could_do_more_than_read_a_file_are_refused(pattern, message):
    with pytest.raises(UsageError, match=f"^shards: .*{message}"):
        expand([pattern])


@pytest.mark.parametrize("protocol", ["http", "https", "s3", "gs", "gcs", "hf", "file", "memory"])
def test_protocols_of_files_are_allowed(protocol):
    assert expand([f"{protocol}://a/{{0..1}}.tar"]) == [f"{protocol}://a/0.tar", f"{protocol}://a/1.tar"]


def test_urls_are_expanded_and_a_matching_name_that_chains_urls_is_refused():
    system = MemoryFileSystem()
    for name in ("patterns/b", "patterns/a", "chained/a::b"):
        system.pipe(f"/{name}.tar", b"")
    with pytest.raises(UsageError, match=r"^shards: 'memory://chained/a::b.tar' chains URLs"):
        expand(["memory://chained/*.tar"])
    assert expand(["memory://patterns/*.tar"]) == ["memory://patterns/a.tar", "memory://patterns/b.tar"]
    assert expand(["memory://pat*/a.tar"]) == ["memory://patterns/a.tar"]
    assert expand(["memory://patterns/{7..8}.tar"]) == ["memory://patterns/7.tar", "memory://patterns/8.tar"]


@pytest.mark.parametrize(
    ("patterns", "base"),
    [
        (["/data/cc3m/{000..331}.tar"], "/data/cc3m/"),
        (["/data/cc3m/a.tar", "/data/cc12m/a.tar"], "/data/"),
        (["/data/*/a.tar"], "/data/"),
        (["s3://bucket/a/{0..3}.tar"], "s3://bucket/a/"),
        (["s3://bucket/a/0.tar", "/data/b.tar"], ""),
    ],
)
def test_the_base_is_what_all_names_start_with(patterns, base):
    assert base_of(patterns) == base


def fail_times(count, error):
    """Return an action that fails some times and then returns 7."""
    left = [error] * count

    def action():
        if left:
            raise left.pop()
        return 7

    return action


@pytest.mark.parametrize(
    "error", [*map(OSError, (errno.EIO, errno.ESTALE, errno.EAGAIN), [""] * 3), TimeoutError(), ConnectionResetError()]
)
def test_transient_errors_are_retried_with_longer_waits_and_counted(error):
    waits = []
    patience = Patience(waits.append)
    assert patience.read(fail_times(len(WAITS), error)) == 7
    assert waits == list(WAITS) == sorted(waits)
    assert patience.retries == len(WAITS)
    assert 3 < sum(WAITS) < 30
    with pytest.raises(type(error)):
        patience.read(fail_times(len(WAITS) + 1, error))
    for lasting in (errno.ENOENT, errno.EACCES, errno.ENOSPC):
        with pytest.raises(OSError, match="gone"):
            Patience(lambda _: pytest.fail("waited")).read(fail_times(1, OSError(lasting, "gone")))


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
    with pytest.raises(UsageError, match=r"nosuch://a.tar cannot be read: Protocol not known"):
        open_url("nosuch://a.tar", {})


@pytest.fixture
def web(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(range(256)) * 1000)
    with serving(tmp_path) as server:
        yield server


def test_web_servers_are_read_whole_and_in_parts_and_what_is_replaced_has_another_version(web):
    content = (web.folder / "a.tar").read_bytes()
    url = f"{web.url}/a.tar"
    with open_url(url, {}) as file:
        assert file.read() == content
    assert web.sent["/a.tar"] == len(content)
    assert read_url(url, 1000, 300, {}) == content[1000:1300]
    assert web.sent["/a.tar"] == len(content) + 300
    before = describe_url(url, {})
    assert before[0] == 256_000
    (web.folder / "a.tar").write_bytes(bytes(256_000))
    assert describe_url(url, {}) != before


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


# Copies


def file_at(url, content=None):
    """Return one of the files of ``urls``."""
    return RemoteFile(url, SIZE, f"{zlib.crc32(bytes([int(url[-5])]) * SIZE if content is None else content):08x}")


def read(copies, url):
    return copies.fetch(file_at(url)).read_bytes()


def names(folder):
    return sorted(path.name for path in folder.glob("*.tar"))


def without_server():
    MemoryFileSystem().rm("/remote", recursive=True)
    MemoryFileSystem().makedirs("/remote")


def test_copies_that_were_used_longest_ago_are_deleted(urls, tmp_path):
    copies = CopiesFolder(tmp_path, 3 * SIZE, {})
    for number, seconds in ((0, 10), (1, 20), (2, 30)):
        os.utime(copies.fetch(file_at(urls[number])), (seconds, seconds))
    read(copies, urls[0])  # again
    read(copies, urls[3])
    assert len(names(tmp_path)) == 3
    without_server()
    for number in (0, 2, 3):
        assert read(copies, urls[number]) == bytes([number]) * SIZE
    with pytest.raises(FileNotFoundError):
        read(copies, urls[1])


def test_files_are_copied_ahead_as_far_as_there_is_room(urls, tmp_path):
    copies = CopiesFolder(tmp_path, 2 * SIZE, {})
    old, new = (copies.fetch(file_at(url)) for url in urls[:2])
    os.utime(old, (1000, 1000))
    assert copies.fetch(file_at(urls[2]), kept_since=2000).exists(), "in the place of the old one"
    assert not copies.fetch(file_at(urls[3]), kept_since=2000).exists(), "both were used since"
    assert new.exists()
    assert not old.exists()
    assert copies.fetch(file_at(urls[3])).exists(), "it is needed now"


def copied(folder, num, seconds=60):
    """Wait until so many copies are in the folder."""
    for _ in range(100 * seconds):
        if len(names(folder)) >= num:
            return True
        time.sleep(0.01)
    return False


def test_expected_files_are_copied_in_their_order_and_no_longer_those_before(urls, tmp_path):
    asked, may_go = queue.Queue(), queue.Queue()

    class Slow(CopiesFolder):
        def fetch(self, file, kept_since=math.inf):
            asked.put(file.url)
            may_go.get()
            return super().fetch(file, kept_since)

    copies = Slow(tmp_path, 10 * SIZE, {})
    copies.fetch_ahead([file_at(url) for url in urls[:3]])
    assert asked.get(timeout=60) == urls[0]
    copies.fetch_ahead([file_at(url) for url in (urls[5], urls[6])])
    assert asked.get(timeout=60) == urls[5]
    for _ in range(4):
        may_go.put(None)
    assert asked.get(timeout=60) == urls[6]
    assert copied(tmp_path, 3)
    assert asked.empty(), "those that are no longer expected are left out"


def test_what_fails_ahead_of_time_is_no_error(urls, tmp_path):
    copies = CopiesFolder(tmp_path, 10 * SIZE, {})
    copies.fetch_ahead([RemoteFile("memory://remote/none.tar", SIZE, "0"), file_at(urls[1])])
    assert copied(tmp_path, 1)
    with pytest.raises(FileNotFoundError):
        copies.fetch(RemoteFile("memory://remote/none.tar", SIZE, "0"))


def test_a_fork_copies_with_a_thread_of_its_own(urls, tmp_path):
    copies = CopiesFolder(tmp_path, 10 * SIZE, {})
    copies.fetch_ahead([file_at(urls[1])])
    assert copied(tmp_path, 1)

    def child():
        copies.fetch_ahead([file_at(urls[2])])
        os._exit(0 if copied(tmp_path, 2) else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_only_our_files_are_deleted_and_what_killed_processes_left(urls, tmp_path):
    others = ["data.tar", "aimv2-x.tar", "aimv2-" + "a" * 40 + ".txt"]
    for name in others:
        (tmp_path / name).write_bytes(bytes(5 * SIZE))
    left, busy = (tmp_path / f"aimv2-{sign * 40}.part" for sign in "ab")
    for path in (left, busy):
        path.write_bytes(bytes(SIZE))
    os.utime(left, (1000, 1000))
    copies = CopiesFolder(tmp_path, 2 * SIZE, {})
    for url in urls:
        read(copies, url)
    assert all((tmp_path / name).exists() for name in others)
    assert not left.exists()
    assert busy.exists()


@pytest.mark.exhaustive
def test_processes_that_want_one_file_copy_it_once(urls, tmp_path):
    started = []

    class Counting(MemoryFileSystem):
        protocol = "counting"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.replace("counting://", "memory://"))

        def get_file(self, path, *args, **kwargs):
            started.append(path)
            return super().get_file(path, *args, **kwargs)

    fsspec.register_implementation("counting", Counting, clobber=True)
    file = file_at(urls[4])._replace(url=urls[4].replace("memory", "counting"))
    for number in range(100):  # once is not enough to meet every order of the steps
        folders = [CopiesFolder(tmp_path / str(number), SIZE, {}) for _ in range(8)]
        # flock belongs to an opened file, so threads wait for each other as processes do
        contents = list(in_threads(lambda folder: folder.fetch(file).read_bytes(), folders, 8))
        assert contents == [b"\4" * SIZE] * 8
        assert len(started) == number + 1


def test_a_failed_copy_leaves_no_file_and_a_large_one_is_refused(urls, tmp_path):
    copies = CopiesFolder(tmp_path, 5 * SIZE, {})
    with pytest.raises(ConnectionError, match=r"it has 1,000 bytes, and had 1,001 when it was indexed"):
        copies.fetch(RemoteFile(urls[0], SIZE + 1, "0"))
    assert names(tmp_path) == []
    assert read(copies, urls[0]) == bytes(SIZE)
    with pytest.raises(RunFailedError, match="does not fit into the shard cache of 999 bytes"):
        read(CopiesFolder(tmp_path, SIZE - 1, {}), urls[1])
