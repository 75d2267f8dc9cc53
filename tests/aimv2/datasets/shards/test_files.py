"""Shards on this host, on a web server and on S3, read by their records."""

import errno
import os
import random

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.processes import in_threads
from aimv2.datasets.description import Location
from aimv2.datasets.shards.files import MAX_OPEN
from aimv2.datasets.shards.records import ShardRecords
from aimv2.datasets.remote import WAITS
from tests.helpers.shards import indexed, location, sample, samples_of, write_shards, write_tar
from tests.helpers.web_server import serving


def test_more_shards_than_may_be_open_are_read_in_any_order(tmp_path):
    paths = write_shards(tmp_path, num_shards=MAX_OPEN + 20, num_samples=1)
    records = indexed(location(tmp_path))
    rows = [*range(len(paths))] * 2
    random.Random(0).shuffle(rows)
    before = len(os.listdir("/proc/self/fd"))
    assert [records.field(row, "txt") for row in rows] == [f"text {row:06d}" for row in rows]
    assert len(os.listdir("/proc/self/fd")) <= before + MAX_OPEN
    del records
    assert len(os.listdir("/proc/self/fd")) <= before


def test_shards_are_compared_without_reading_them(shards):
    paths, records = shards
    records.check()
    paths[0].chmod(0o600)
    records.check()
    os.utime(paths[1], (5, 5))
    paths[2].unlink()
    with pytest.raises(UsageError, match=r"shards are not as .*00002.tar is missing; .*00001.tar is changed.; restore"):
        records.check()


def test_a_read_of_an_open_shard_looks_nothing_up(shards):
    """A look into the table of shards took longer than the read, and made small pictures 6 % slower."""
    paths, records = shards
    records.image(0)
    records._files._index = None
    assert records.image(1) == samples_of(paths[0])[1][1]["jpg"]


def test_transient_errors_are_retried_with_a_new_descriptor(shards):
    _, records = shards
    records.image(1)
    (opened,) = records._files._open.values()
    os.close(opened.descriptor)  # as after a lost mount: the next read fails
    opened.descriptor = os.open("/proc/self/mem", os.O_RDONLY)  # EIO at unmapped addresses
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        os.pread(opened.descriptor, 1, 0)
    assert records.image(0) == samples_of(shards[0][0])[0][1]["jpg"]
    assert records.retries == 1


def test_shards_behind_urls_are_read_through_the_cache(tmp_path):
    system = MemoryFileSystem()
    paths = write_shards(tmp_path)
    for path in paths:
        system.pipe(f"/records/{path.name}", path.read_bytes())
    place = Location(shards=("memory://records/*.tar",), index=str(tmp_path / "remote.index"))
    size = max(path.stat().st_size for path in paths)
    records = indexed(place, cache_dir=str(tmp_path / "cache"), cache_bytes=2 * size)
    for first in range(0, 15, 5):
        records.expect([range(first, first + 5)])
        rows = range(first, first + 5)
        assert [records.field(row, "txt") for row in rows] == [f"text {row:06d}" for row in rows]
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert [part.name for part in records.parts()] == [path.name for path in paths]
    system.pipe("/records/00000.tar", b"other")
    records = ShardRecords(place, cache_dir=str(tmp_path / "cache"), cache_bytes=2 * size, sleep=lambda _: None)
    with pytest.raises(RunFailedError, match=r"the shard memory://records/00000.tar cannot be read: it ends .* bytes"):
        records.image(0)
    assert records.retries == len(WAITS)
    records.expect([range(5)])
    with pytest.raises(
        RunFailedError, match=r"the shard memory://records/00000.tar cannot be read: it has 5 bytes, and had"
    ):
        records.image(0)


def test_a_remote_shard_that_was_replaced_is_read_only_after_it_is_indexed_again(tmp_path):
    system = MemoryFileSystem()
    first, second = (
        write_tar(tmp_path / name, sample(number)) for number, name in ((1, "first.tar"), (2, "second.tar"))
    )
    assert first.stat().st_size == second.stat().st_size
    place = Location(shards=("memory://replaced/a.tar",), index=str(tmp_path / "remote.index"))
    cache = {"cache_dir": str(tmp_path / "cache"), "cache_bytes": 10**6}
    system.pipe("/replaced/a.tar", first.read_bytes())
    assert indexed(place, **cache).field(0, "txt") == "text 000001"
    system.pipe("/replaced/a.tar", second.read_bytes())
    assert indexed(place, **cache).field(0, "txt") == "text 000002"
    system.pipe("/replaced/a.tar", second.read_bytes().replace(b"text", b"TEXT"))
    records = ShardRecords(place, sleep=lambda _: None, **cache)
    with pytest.raises(RunFailedError, match=r"has changed .* has another content\); run python -m"):
        records.field(0, "txt")
    records.expect([range(1)])
    with pytest.raises(RunFailedError, match=r"its content is not .*; if it is gone or has changed, run python -m"):
        records.field(0, "txt")


@pytest.fixture(params=["http", "s3"])
def web(request, tmp_path, monkeypatch):
    """Yield a web server of three shards of five samples, records of them, and records of the local files.

    To a client that asks for no lists, the server is one of S3, and the folder above the shards a bucket.
    """
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # of each of our attempts
    folder = tmp_path / "shards"
    folder.mkdir()
    write_shards(folder)
    with serving(tmp_path) as server:
        start, options = f"{server.url}/shards", {}
        if request.param == "s3":
            start, options = "s3://shards", {"endpoint_url": server.url, "anon": True}
        place = Location(
            shards=(f"{start}/{{00000..00002}}.tar",), index=str(tmp_path / "web.index"), storage_options=options
        )
        records = indexed(place, cache_dir=str(tmp_path / "cache"), cache_bytes=10**9)
        server.sent.clear()
        yield server, records, indexed(location(folder))


def test_of_a_remote_shard_only_the_members_are_fetched(web):
    server, records, local = web
    for row in (1, 7, 14):
        assert records.field(row, "txt") == local.field(row, "txt")
        assert records.key(row) == local.key(row)
    assert server.sent.total() < 3 * 2 * 4096
    assert records.image(7) == local.image(7)
    size = (server.folder / "shards/00001.tar").stat().st_size
    assert server.sent["/shards/00001.tar"] < size


def test_expected_remote_shards_are_fetched_once(web):
    server, records, local = web
    for blocks in ([range(5), range(5, 10)], [range(5, 10), range(10, 15)], [range(10, 15)]):
        records.expect(blocks)
        assert [records.image(row) for row in blocks[0]] == [local.image(row) for row in blocks[0]]
    sizes = {f"/shards/{path.name}": path.stat().st_size for path in server.folder.glob("shards/*.tar")}
    assert server.sent == sizes


def test_a_server_that_gives_no_parts_gives_each_shard_once_more(web):
    server, records, local = web
    server.gives_parts = False
    rows = [12, 1, 7, 2, 13, 8]
    assert [records.field(row, "txt") for row in rows] == [local.field(row, "txt") for row in rows]
    sizes = sum(path.stat().st_size for path in server.folder.glob("shards/*.tar"))
    assert server.sent.total() <= sizes + (server.folder / "shards/00002.tar").stat().st_size


def test_threads_read_what_one_reads(web):
    _, records, local = web
    draw = random.Random(0)
    wanted = [(draw.randrange(15), draw.choice(["txt", "json.caption", "json.meta.width"])) for _ in range(300)]
    assert records.concurrency > 1
    assert local.concurrency == 1
    found = in_threads(lambda one: records.field(*one), wanted, records.concurrency)
    assert list(found) == [local.field(*one) for one in wanted]


@pytest.mark.parametrize("is_expected", [True, False])
def test_a_web_server_that_fails_for_a_while_is_outlasted(web, is_expected):
    server, records, local = web
    first = server.numbers["/shards/00000.tar"] + 1
    server.before = lambda path, number: 503 if path == "/shards/00000.tar" and number < first + 3 else None
    if is_expected:
        records.expect([range(5)])
    assert records.image(0) == local.image(0)
    assert records.retries or is_expected, "the thread may have met the errors"


def test_a_full_disk_is_said(tmp_path):
    class Full(MemoryFileSystem):
        protocol = "memory"

        def open(self, *_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

    paths = write_shards(tmp_path)
    for path in paths:
        MemoryFileSystem().pipe(f"/full/{path.name}", path.read_bytes())
    place = Location(shards=("memory://full/*.tar",), index=str(tmp_path / "full.index"))
    records = indexed(place, cache_dir=str(tmp_path / "cache"), cache_bytes=10**6)
    records.expect([range(5)])
    fsspec.register_implementation("memory", Full, clobber=True)
    try:
        with pytest.raises(RunFailedError, match=r"there is no space for a copy of memory://full/00000.tar") as found:
            records.image(0)
    finally:
        fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)
    assert found.value.cause == "no space"


@pytest.mark.parametrize("is_expected", [True, False])
@pytest.mark.parametrize(
    ("status", "cause", "sentence"),
    [
        (500, "node", "retry when its disk or server works again"),
        (503, "node", "retry when its disk or server works again"),
        (404, "data", "if it is gone or has changed, run python -m aimv2 data index"),
        (403, "data", "check the credentials in the environment"),
    ],
)
def test_a_web_server_that_keeps_failing_is_one_sentence(web, status, cause, sentence, is_expected):
    server, records, _ = web
    server.before = lambda *_: status
    if is_expected:
        records.expect([range(5)])
    with pytest.raises(RunFailedError, match=rf"the shard \S*/00000.tar cannot be read: .*; {sentence}") as found:
        records.image(0)
    assert found.value.cause == cause


def test_a_remote_shard_that_is_cut_short_is_one_sentence(web):
    server, records, _ = web
    shard = server.folder / "shards/00000.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(RunFailedError, match=r"/00000.tar .* run python -m aimv2 data index") as found:
        records.image(4)
    assert found.value.cause == "data"


@pytest.mark.parametrize("content", [b"", bytes(40960)])
def test_a_damaged_copy_is_fetched_again(web, tmp_path, content):
    _, records, local = web
    records.expect([range(5)])
    assert records.image(1) == local.image(1)
    for copy in (tmp_path / "cache").glob("*.tar"):
        copy.write_bytes(content)
    assert records.image(2) == local.image(2)
    assert records.field(3, "txt") == local.field(3, "txt")


@pytest.fixture
def s3(monkeypatch):
    """Yield the address of a server of S3 on this host."""
    for key, value in {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


def test_shards_on_s3_are_those_of_files(s3, tmp_path):
    (tmp_path / "shards").mkdir()
    paths = write_shards(tmp_path / "shards")
    bucket = S3FileSystem(endpoint_url=s3)
    bucket.mkdir("bucket")
    for path in paths:
        bucket.pipe(f"bucket/set/{path.name}", path.read_bytes())
    place = Location(
        shards=("s3://bucket/set/*.tar",), index=str(tmp_path / "s3.index"), storage_options={"endpoint_url": s3}
    )
    records = indexed(place, cache_dir=str(tmp_path / "cache"), cache_bytes=10**6)
    local = indexed(location(tmp_path / "shards"))
    assert [part.checksum for part in records.parts()] == [part.checksum for part in local.parts()]
    assert records.field(7, "txt") == local.field(7, "txt")
    assert not (tmp_path / "cache").exists()
    records.expect([range(5)])
    assert records.image(3) == local.image(3)
    bucket.pipe("bucket/set/00001.tar", b"x" * paths[1].stat().st_size)
    with pytest.raises(RunFailedError, match=r"the shard s3://bucket/set/00001.tar has changed since it was indexed"):
        records.field(8, "txt")
    with pytest.raises(UsageError, match=r"s3://bucket/set/00001.tar .*"):
        indexed(place)


def test_without_credentials_s3_is_one_sentence(s3, monkeypatch, tmp_path):
    for key in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{key}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    S3FileSystem.clear_instance_cache()
    place = Location(
        shards=("s3://bucket/a.tar",), index=str(tmp_path / "s3.index"), storage_options={"endpoint_url": s3}
    )
    with pytest.raises(UsageError, match=r"s3://bucket/a.tar cannot be read: .*Unable to locate credentials"):
        indexed(place)
