import errno
import fcntl
import os
import threading
import zlib
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.datasets.shards.remote import WAITS, Patience, ShardCache, describe_url, open_url

SIZE = 1000


@pytest.fixture
def urls():
    """Return the URLs of ten files in memory, each with another content."""
    system = MemoryFileSystem()
    for number in range(10):
        system.pipe(f"/remote/{number}.tar", bytes([number]) * SIZE)
    yield [f"memory://remote/{number}.tar" for number in range(10)]
    system.rm("/remote", recursive=True)


def checksum(content):
    return f"{zlib.crc32(content):08x}"


def open_in(cache, url):
    """Open a copy of one of the files of ``urls``."""
    return cache.open(url, SIZE, checksum(bytes([int(url[-5])]) * SIZE))


def read(cache, url):
    opened = open_in(cache, url)
    try:
        return os.pread(opened, 10**6, 0)
    finally:
        os.close(opened)


def copies(folder: Path):
    return sorted(path.name for path in folder.iterdir())


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
    with open_url(urls[3]) as file:
        assert file.read() == b"\3" * SIZE
    assert describe_url(urls[3])[0] == SIZE
    local = tmp_path / "a.tar"
    local.write_bytes(b"1")
    before = describe_url(f"file://{local}")
    local.write_bytes(b"22")
    assert describe_url(f"file://{local}") != before
    with pytest.raises(FileNotFoundError):
        open_url("memory://remote/none.tar")


def test_an_unknown_kind_of_url_is_one_sentence():
    with pytest.raises(UsageError, match=r"nosuch://a.tar cannot be read: Protocol not known"):
        open_url("nosuch://a.tar")


def test_errors_of_client_libraries_are_transient():
    class Broken(MemoryFileSystem):
        protocol = "broken"

        def open(self, *_, **__):
            raise RuntimeError("the client's own error")

    fsspec.register_implementation("broken", Broken, clobber=True)
    with pytest.raises(ConnectionError, match="the client's own error"):
        open_url("broken://a.tar")


def test_shards_are_fetched_once(urls, tmp_path):
    cache = ShardCache(tmp_path / "new" / "cache", 10 * SIZE)
    assert read(cache, urls[5]) == b"\5" * SIZE
    MemoryFileSystem().rm("/remote/5.tar")
    assert read(cache, urls[5]) == b"\5" * SIZE


def test_the_shards_opened_longest_ago_are_deleted(urls, tmp_path):
    cache = ShardCache(tmp_path, 3 * SIZE)
    for number, time in ((0, 10), (1, 20), (2, 30)):
        read(cache, urls[number])
        (new,) = (path for path in tmp_path.iterdir() if path.stat().st_mtime > 1000)
        os.utime(new, (time, time))
    read(cache, urls[0])  # again
    read(cache, urls[3])
    assert len(copies(tmp_path)) == 3
    MemoryFileSystem().rm("/remote", recursive=True)
    MemoryFileSystem().makedirs("/remote")
    for number in (0, 2, 3):
        assert read(cache, urls[number]) == bytes([number]) * SIZE
    with pytest.raises(FileNotFoundError):
        read(cache, urls[1])


def test_an_open_shard_that_is_deleted_is_read_to_its_end(urls, tmp_path):
    cache = ShardCache(tmp_path, SIZE)
    opened = open_in(cache, urls[0])
    read(cache, urls[1])
    assert len(copies(tmp_path)) == 1
    assert os.pread(opened, SIZE, 0) == bytes(SIZE)
    os.close(opened)


def test_only_our_files_are_deleted(urls, tmp_path):
    others = ["data.tar", "aimv2-x.tar", "aimv2-" + "a" * 40 + ".txt"]
    for name in others:
        (tmp_path / name).write_bytes(bytes(5 * SIZE))
    cache = ShardCache(tmp_path, SIZE)
    for url in urls:
        read(cache, url)
    assert set(others) < set(copies(tmp_path))
    assert len(copies(tmp_path)) == len(others) + 1


def test_what_killed_processes_left_is_deleted_and_what_others_fetch_is_kept(urls, tmp_path):
    left, busy = (tmp_path / f"aimv2-{sign * 40}.part" for sign in "ab")
    for path in (left, busy):
        path.write_bytes(bytes(500))
    with busy.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        read(ShardCache(tmp_path, 2 * SIZE), urls[0])
    assert not left.exists()
    assert busy.exists()


@pytest.mark.exhaustive
def test_processes_that_want_one_shard_fetch_it_once(urls, tmp_path):
    fetched = []

    class Counting(MemoryFileSystem):
        protocol = "counting"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.replace("counting://", "memory://"))

        def open(self, path, *args, **kwargs):
            fetched.append(path)
            return super().open(path, *args, **kwargs)

    fsspec.register_implementation("counting", Counting, clobber=True)
    url = urls[4].replace("memory", "counting")
    for round_ in range(200):  # once is not enough to meet every order of the steps
        folder = tmp_path / str(round_)
        results = []

        def fetch(folder=folder, results=results):
            results.append(read(ShardCache(folder, SIZE), url))

        # flock belongs to an opened file, so threads wait for each other as processes do
        threads = [threading.Thread(target=fetch) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [b"\4" * SIZE] * 8
        assert len(fetched) == round_ + 1
        assert len(copies(folder)) == 1


def test_a_failed_fetch_leaves_no_shard(urls, tmp_path):
    cache = ShardCache(tmp_path, 5 * SIZE)
    with pytest.raises(ConnectionError, match=r"it has 1,000 bytes, and had 1,001 when it was indexed"):
        cache.open(urls[0], SIZE + 1, checksum(bytes(SIZE)))
    with pytest.raises(ConnectionError, match="its content is not that which was indexed"):
        cache.open(urls[1], SIZE, checksum(bytes(SIZE)))
    assert [name for name in copies(tmp_path) if name.endswith(".tar")] == []
    with pytest.raises(FileNotFoundError):
        cache.open("memory://remote/none.tar", SIZE, "0")
    assert read(cache, urls[0]) == bytes(SIZE)


def test_a_shard_larger_than_the_cache_is_refused(urls, tmp_path):
    with pytest.raises(RunFailedError, match="does not fit into the shard cache of 999 bytes"):
        open_in(ShardCache(tmp_path, SIZE - 1), urls[0])


def test_a_replaced_shard_is_not_read_from_an_old_copy(urls, tmp_path):
    cache = ShardCache(tmp_path, 5 * SIZE)
    assert read(cache, urls[0]) == bytes(SIZE)
    MemoryFileSystem().pipe("/remote/0.tar", b"9" * SIZE)
    opened = cache.open(urls[0], SIZE, checksum(b"9" * SIZE))  # as after it was indexed again
    assert os.pread(opened, 10**6, 0) == b"9" * SIZE
    os.close(opened)
