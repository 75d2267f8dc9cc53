import fcntl
import multiprocessing
import os
import queue
import shutil
import threading
import time
import zlib
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from aimv2.base.errors import RunFailedError
from aimv2.base.processes import in_threads
from aimv2.datasets.shards.cache import FetchAhead, RemoteShard, ShardCache
from tests.helpers.shards import SIZE


def checksum(content):
    return f"{zlib.crc32(content):08x}"


def shard_at(url):
    """Return one of the files of ``urls``."""
    return RemoteShard(url, SIZE, checksum(bytes([int(url[-5])]) * SIZE))


def open_in(cache, url):
    return cache.open(shard_at(url))


def read(cache, url):
    opened = open_in(cache, url)
    try:
        return os.pread(opened, 10**6, 0)
    finally:
        os.close(opened)


def copies(folder: Path):
    return sorted(path.name for path in folder.iterdir())


def test_shards_are_fetched_once(urls, tmp_path):
    cache = ShardCache(tmp_path / "new" / "cache", 10 * SIZE, {})
    assert read(cache, urls[5]) == b"\5" * SIZE
    MemoryFileSystem().rm("/remote/5.tar")
    assert read(cache, urls[5]) == b"\5" * SIZE


def test_the_shards_opened_longest_ago_are_deleted(urls, tmp_path):
    cache = ShardCache(tmp_path, 3 * SIZE, {})
    for number, seconds in ((0, 10), (1, 20), (2, 30)):
        read(cache, urls[number])
        (new,) = (path for path in tmp_path.iterdir() if path.stat().st_mtime > 1000)
        os.utime(new, (seconds, seconds))
    read(cache, urls[0])  # again
    read(cache, urls[3])
    assert len(copies(tmp_path)) == 3
    MemoryFileSystem().rm("/remote", recursive=True)
    MemoryFileSystem().makedirs("/remote")
    for number in (0, 2, 3):
        assert read(cache, urls[number]) == bytes([number]) * SIZE
    with pytest.raises(FileNotFoundError):
        read(cache, urls[1])


def test_a_shard_that_is_open_is_not_deleted(urls, tmp_path):
    cache = ShardCache(tmp_path, SIZE, {})
    opened = open_in(cache, urls[0])
    read(cache, urls[1])
    assert len(copies(tmp_path)) == 2, "more than the limit while both are needed"
    os.close(opened)
    read(cache, urls[2])
    assert len(copies(tmp_path)) == 1


def test_shards_are_fetched_ahead_as_far_as_there_is_room(urls, tmp_path):
    cache = ShardCache(tmp_path, 2 * SIZE, {})
    for url in urls[:2]:
        read(cache, url)
    for path in tmp_path.iterdir():
        os.utime(path, (1000, 1000))
    opened = open_in(cache, urls[0])
    assert cache.fetch_ahead(shard_at(urls[2]), since=2000), "in the place of that which is closed and old"
    assert not cache.fetch_ahead(shard_at(urls[3]), since=2000), "one is open and one is new"
    os.close(opened)
    assert not cache.fetch_ahead(shard_at(urls[3]), since=2000), "both were opened since"
    assert cache.fetch_ahead(shard_at(urls[3]), since=1e12)
    MemoryFileSystem().rm("/remote", recursive=True)
    MemoryFileSystem().makedirs("/remote")
    assert read(cache, urls[3]) == b"\3" * SIZE
    assert len(copies(tmp_path)) == 2


def test_a_shard_that_another_process_fetches_is_not_waited_for(urls, tmp_path):
    cache = ShardCache(tmp_path, 2 * SIZE, {})
    read(cache, urls[0])
    (name,) = copies(tmp_path)
    (tmp_path / name).rename(tmp_path / name.replace(".tar", ".part"))
    with (tmp_path / name.replace(".tar", ".part")).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert cache.fetch_ahead(shard_at(urls[0]), since=0)
        assert copies(tmp_path) == [name.replace(".tar", ".part")]


def test_expected_shards_are_fetched_in_their_order(urls, tmp_path):
    """A cache that counts what it is asked for, and waits for the test."""
    asked, may_go = queue.Queue(), queue.Queue()

    class Slow(ShardCache):
        def fetch_ahead(self, shard, since):
            asked.put(shard.url)
            may_go.get()
            return super().fetch_ahead(shard, since)

    ahead = FetchAhead(Slow(tmp_path, 10 * SIZE, {}))
    ahead.expect([shard_at(url) for url in urls[:3]])
    assert asked.get(timeout=60) == urls[0]
    ahead.expect([shard_at(url) for url in (urls[0], urls[5], urls[6])])
    may_go.put(None)
    assert asked.get(timeout=60) == urls[5], "those that are no longer expected are left out"
    may_go.put(None)
    assert asked.get(timeout=60) == urls[6]
    may_go.put(None)
    ahead.expect([shard_at(urls[7])])
    assert asked.get(timeout=60) == urls[7]
    assert len([name for name in copies(tmp_path) if name.endswith(".tar")]) == 3


def fetched(folder, num, seconds=60):
    """Wait until so many shards are in the folder."""
    for _ in range(100 * seconds):
        if len([name for name in copies(folder) if name.endswith(".tar")]) >= num:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("outcomes", [[OSError("the network")], [False, False]], ids=["an error", "no room"])
def test_what_fails_ahead_of_time_is_tried_again_and_is_no_error(urls, tmp_path, outcomes):
    class Failing(ShardCache):
        def fetch_ahead(self, shard, since):
            if not outcomes:
                return super().fetch_ahead(shard, since)
            if isinstance(outcomes[0], Exception):
                raise outcomes.pop(0)
            return outcomes.pop(0)

    ahead = FetchAhead(Failing(tmp_path, 10 * SIZE, {}), again=0.01)
    ahead.expect([shard_at(urls[1])])
    assert fetched(tmp_path, 1)
    assert not outcomes
    ahead.close()


def threads_that_fetch():
    return [thread for thread in threading.enumerate() if thread.name == "fetches shards"]


def test_a_closed_fetcher_ends_its_thread_and_makes_no_folder(urls, tmp_path):
    before = len(threads_that_fetch())
    ahead = FetchAhead(ShardCache(tmp_path / "cache", 10 * SIZE, {}), again=0.01)
    ahead.expect([shard_at(urls[1])])
    assert fetched(tmp_path / "cache", 1)
    shutil.rmtree(tmp_path / "cache")
    ahead.close()
    for thread in threads_that_fetch()[before:]:
        thread.join(60)
    assert len(threads_that_fetch()) == before
    assert not (tmp_path / "cache").exists()


def test_a_fork_fetches_with_a_thread_of_its_own(urls, tmp_path):
    ahead = FetchAhead(ShardCache(tmp_path, 10 * SIZE, {}))
    ahead.expect([shard_at(urls[1])])
    assert fetched(tmp_path, 1)

    def child():
        ahead.expect([shard_at(urls[2])])
        os._exit(0 if fetched(tmp_path, 2) else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    ahead.close()


def test_what_is_fetched_at_the_same_time_keeps_the_limit(urls, tmp_path):
    cache = ShardCache(tmp_path, 4 * SIZE, {})
    is_fetched = list(in_threads(lambda url: cache.fetch_ahead(shard_at(url), 0), urls[:8], 8))
    assert len(copies(tmp_path)) == sum(is_fetched) == 4


def test_a_shard_that_is_complete_while_room_is_sought_counts(urls, tmp_path, monkeypatch):
    """Its two names were listed once: the old one had gone before it was counted, and the new one was not listed."""
    cache = ShardCache(tmp_path, SIZE, {})
    assert cache.fetch_ahead(shard_at(urls[0]), 0)
    (complete,) = tmp_path.iterdir()
    partial, listdir = complete.with_suffix(".part"), os.listdir
    complete.rename(partial)

    def listed(folder):
        names = listdir(folder)
        if partial.exists():
            partial.rename(complete)
        return names

    with partial.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.setattr(os, "listdir", listed)
        assert not cache.fetch_ahead(shard_at(urls[1]), 0)
    assert copies(tmp_path) == [complete.name]


def test_only_our_files_are_deleted(urls, tmp_path):
    others = ["data.tar", "aimv2-x.tar", "aimv2-" + "a" * 40 + ".txt"]
    for name in others:
        (tmp_path / name).write_bytes(bytes(5 * SIZE))
    cache = ShardCache(tmp_path, SIZE, {})
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
        read(ShardCache(tmp_path, 2 * SIZE, {}), urls[0])
    assert not left.exists()
    assert busy.exists()


def test_processes_that_keep_one_shard_open_do_not_wait_for_each_other(urls, tmp_path):
    """All eight have it open at a time. flock belongs to an opened file, so threads wait as processes do."""
    for round_ in range(20):
        all_opened = threading.Barrier(8)

        def opened(cache, all_opened=all_opened):
            descriptor = open_in(cache, urls[2])
            all_opened.wait(60)
            return descriptor

        caches = [ShardCache(tmp_path / str(round_), SIZE, {}) for _ in range(8)]
        for descriptor in in_threads(opened, caches, 8):
            assert os.pread(descriptor, 10**6, 0) == b"\2" * SIZE
            os.close(descriptor)


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
            results.append(read(ShardCache(folder, SIZE, {}), url))

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
    cache = ShardCache(tmp_path, 5 * SIZE, {})
    with pytest.raises(ConnectionError, match=r"it has 1,000 bytes, and had 1,001 when it was indexed"):
        cache.open(RemoteShard(urls[0], SIZE + 1, checksum(bytes(SIZE))))
    with pytest.raises(ConnectionError, match="its content is not that which was indexed"):
        cache.open(RemoteShard(urls[1], SIZE, checksum(bytes(SIZE))))
    assert [name for name in copies(tmp_path) if name.endswith(".tar")] == []
    with pytest.raises(FileNotFoundError):
        cache.open(RemoteShard("memory://remote/none.tar", SIZE, "0"))
    assert read(cache, urls[0]) == bytes(SIZE)


def test_a_shard_larger_than_the_cache_is_refused(urls, tmp_path):
    with pytest.raises(RunFailedError, match="does not fit into the shard cache of 999 bytes"):
        open_in(ShardCache(tmp_path, SIZE - 1, {}), urls[0])


def test_a_replaced_shard_is_not_read_from_an_old_copy(urls, tmp_path):
    cache = ShardCache(tmp_path, 5 * SIZE, {})
    assert read(cache, urls[0]) == bytes(SIZE)
    MemoryFileSystem().pipe("/remote/0.tar", b"9" * SIZE)
    opened = cache.open(RemoteShard(urls[0], SIZE, checksum(b"9" * SIZE)))  # as after it was indexed again
    assert os.pread(opened, 10**6, 0) == b"9" * SIZE
    os.close(opened)
