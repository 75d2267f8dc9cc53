"""Records of shards on this host, on a web server and on S3."""

import contextlib
import errno
import json
import os
import pickle
import random
import tarfile
from collections import Counter
from functools import partial

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from aimv2.base import order
from aimv2.base.address import hash64
from aimv2.base.errors import BadSampleError, RunFailedError, UsageError
from aimv2.base.processes import in_threads
from aimv2.data.batches.training import loaded
from aimv2.datasets.description import Location
from aimv2.datasets.records import MAX_BLOCK_ROWS, MAX_OPEN, Records
from tests.helpers.shards import build, indexed, location, no_wait, sample, samples_of, write_shards, write_tar
from tests.helpers.web_server import serving


def test_the_permutations_that_the_order_keeps_are_small():
    assert order.KEPT * order._permutation(0, "test", 0, 0, MAX_BLOCK_ROWS).nbytes <= 2**25


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_records_are_what_webdataset_reads(kind, tmp_path):
    members = [member for number in range(20) for member in sample(number)]
    members += [("d/" * 40 + "k.JPG", b"1"), ("d/" * 40 + "k.txt", "ü".encode())]
    if kind != tarfile.USTAR_FORMAT:
        members += [("n" * 9000 + ".jpg", b"2"), ("n" * 9000 + ".txt", b""), ("ü.jpg", b"3"), ("ü.txt", b"4")]
    path = write_tar(tmp_path / "a.tar", members, kind=kind)
    records = indexed(location(tmp_path))
    expected = samples_of(path)
    assert len(records) == len(expected)
    for row, (key, found) in enumerate(expected):
        assert records.key(row) == key
        assert records.image(row) == found["jpg"]
        assert records.field(row, "txt") == found["txt"].decode()
        assert records.field(row, "json.caption") == (json.loads(found["json"])["caption"] if "json" in found else None)
    hashes = records.key_hashes(np.arange(len(records)))
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [hash64(key) for key, _ in expected]


def test_fields_of_json_members(shards):
    _, records = shards
    assert records.field(3, "json.caption") == "json 000003"
    assert records.field(3, "json.meta.width") == 3
    assert records.field(3, "json.several") == ["a 000003", "b 000003"]
    for missing in ("json.nothing", "json.caption.deeper", "json.meta.nothing.at.all", "nothing"):
        assert records.field(3, missing) is None
    assert json.loads(records.field(3, "json"))["meta"] == {"width": 3}
    first, *_ = records.fields()
    assert records.other_fields(first) == ""
    assert records.other_fields("nothing.at.all").split(", ")[0] in records.fields()


def test_extensions_with_dots_and_capitals_are_fields(tmp_path):
    write_tar(tmp_path / "a.tar", [("1.jpg", b"i"), ("1.Meta.JSON", b'{"a": {"b": 1}}'), ("1.seg.png", b"s")])
    records = indexed(location(tmp_path))
    assert records.field(0, "meta.json.a.b") == 1
    assert records.field(0, "Meta.JSON.a") == {"b": 1}
    assert indexed(location(tmp_path, image="seg.png")).image(0) == b"s"


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'"\xff"', b"1" * 10_000, b""])
def test_broken_json_is_a_bad_sample(content, tmp_path):
    write_tar(tmp_path / "a.tar", [("1.jpg", b"i"), ("1.json", content)])
    with pytest.raises(BadSampleError, match=r"broken json: 1: json: ") as error:
        indexed(location(tmp_path)).field(0, "json.caption")
    assert error.value.reason == "broken json"


def test_the_image_is_the_member_that_is_there_or_the_one_named(tmp_path):
    members = [("1.png", b"p"), ("1.jpg", b"j"), ("1.txt", b""), ("2.webp", b"w"), ("3.txt", b""), ("4.jpeg", b"e")]
    write_tar(tmp_path / "a.tar", members)
    records = indexed(location(tmp_path))
    assert [records.image(row) for row in (0, 1, 3)] == [b"j", b"w", b"e"]
    with pytest.raises(BadSampleError, match="missing image: 3"):
        records.image(2)
    assert indexed(location(tmp_path, image="png")).image(0) == b"p"
    with pytest.raises(UsageError, match="the shards have no member tif; set image to one of their members: jpeg, jpg"):
        Records(location(tmp_path, image="tif"))


OTHER = [member for number in range(50, 55) for member in sample(number)]


def change(path, how):
    content = path.read_bytes()
    if how in ("missing", "a folder", "unreadable"):
        path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "unreadable":
        path.symlink_to(path)
    elif how == "truncated":
        path.write_bytes(content[:-2000])
    elif how == "longer":
        path.write_bytes(content + bytes(512))
    elif how == "other samples":
        write_tar(path, OTHER)
        assert path.stat().st_size == len(content)
    elif how == "other images":
        path.write_bytes(content.replace(b"image", b"IMAGE"))
        os.utime(path, (5, 5))  # a clock may be coarser than the test is fast
    elif how == "same size and time":
        status = path.stat()
        path.write_bytes(content.replace(b"text 000007", b"TEXT 000007").replace(b"image 000007", b"IMAGE 000007"))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("read", ["image", "txt"])
@pytest.mark.parametrize(
    "how",
    ["missing", "truncated", "longer", "other samples", "other images", "same size and time", "a folder", "unreadable"],
)
def test_a_changed_shard_is_one_error_that_names_it(how, read, shards):
    paths, records = shards
    records.image(0)
    change(paths[1], how)
    with pytest.raises(RunFailedError, match=r"00001.tar (has changed|cannot be read)") as error:
        records.field(7, read) if read == "txt" else getattr(records, read)(7)
    assert error.value.cause == "data"
    assert "run python -m aimv2 data index" in str(error.value)
    assert records.image(0)  # the others are read


def test_a_shard_that_changes_while_it_is_open_gives_no_wrong_sample(shards):
    paths, records = shards
    records.image(6)
    with paths[1].open("r+b") as file:
        file.write(write_tar(paths[1].with_suffix(".new"), OTHER).read_bytes())
    with pytest.raises(RunFailedError, match="has changed since it was indexed"):
        records.image(7)


def test_records_are_read_in_loader_processes(tmp_path):
    write_shards(tmp_path)
    records = indexed(location(tmp_path))
    expected = [f"text {row:06d}" for row in range(15)]
    assert records.field(0, "txt") == expected[0]  # open before the process starts
    read = partial(records.field, name="txt")
    assert list(loaded(read, range(15), num_workers=1, pin_memory=False)) == expected
    copy = pickle.loads(pickle.dumps(records))
    assert [copy.field(row, "txt") for row in range(15)] == expected


# Mutations


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Flip bytes, cut, or copy, move, swap, insert and delete blocks."""
    changed = bytearray(content)
    num_blocks = len(changed) // 512
    for _ in range(draw.randint(1, 4)):
        first, second = (512 * draw.randrange(num_blocks) for _ in range(2))
        length = 512 * draw.choice([1, 1, 2, 3, 8])
        piece = bytes(changed[first : first + length])
        match draw.randrange(7):
            case 0 | 1:
                changed[draw.randrange(len(changed))] ^= draw.randint(1, 255)
            case 2:
                del changed[draw.randrange(len(changed)) :]
                break
            case 3:
                changed[second : second + length] = piece
            case 4:
                changed[second:second] = piece
            case 5:
                del changed[first : first + length]
            case 6:
                other = changed[second : second + len(piece)]
                changed[second : second + len(piece)], changed[first : first + length] = piece, other
        if len(changed) < 1024:
            break
    return bytes(changed)


def by_name(path):
    """Return, for each name, the contents after every intact header of a file in a shard, wherever it is."""
    content = path.read_bytes()
    found = {}
    for start in range(0, len(content) - 511, 512):
        with contextlib.suppress(tarfile.HeaderError):
            info = tarfile.TarInfo.frombuf(content[start : start + 512], "utf-8", "surrogateescape")
            if info.isreg():
                found.setdefault(info.name, []).append(content[start + 512 : start + 512 + info.size])
    return found


def read_all(records, in_shard, counts):
    """Read everything; each member must be that of the row's key by the names in the shard."""
    for row in range(len(records)):
        try:
            key = records.key(row)
            assert hash64(key) == int(records.key_hashes(np.array([row]))[0])
            assert records.image(row) in in_shard[f"{key}.jpg"]
            text = records.field(row, "txt")
            assert text is None or text.encode() in in_shard[f"{key}.txt"]
            records.field(row, "json.caption")
            counts["read"] += 1
        except BadSampleError:
            counts["bad sample"] += 1
        except RunFailedError:
            counts["run failed"] += 1


@pytest.mark.exhaustive
def test_no_mutation_of_a_shard_gives_a_wrong_pair(tmp_path):
    (path,) = write_shards(tmp_path, num_shards=1, num_samples=12)
    whole = path.read_bytes()
    counts, status, before = Counter(), path.stat(), by_name(path)
    build(location(tmp_path))
    for seed in range(400):
        path.write_bytes(mutate(whole, random.Random(seed)))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a broken disk would leave it
        records = Records(location(tmp_path), sleep=no_wait)  # indexed before the mutation
        read_all(records, before, counts)
        try:
            after = indexed(Location(shards=(str(path),), index=str(tmp_path / "after.index")))
        except UsageError:
            counts["not indexed"] += 1
        else:
            read_all(after, by_name(path), counts)
    assert all(counts[outcome] > 66 for outcome in ("read", "run failed", "not indexed"))


# Shards on other hosts


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
    with pytest.raises(UsageError, match=r"indexed .00002.tar is missing; 00001.tar is changed.; restore"):
        records.check()


def test_a_remote_shard_that_was_replaced_is_read_only_after_it_is_indexed_again(tmp_path):
    system = MemoryFileSystem()
    first, second = (write_tar(tmp_path / f"{number}.tar", sample(number)) for number in (1, 2))
    assert first.stat().st_size == second.stat().st_size
    place = Location(shards=("memory://replaced/a.tar",), index=str(tmp_path / "remote.index"))
    cache = {"cache_dir": str(tmp_path / "cache"), "cache_bytes": 10**6}
    system.pipe("/replaced/a.tar", first.read_bytes())
    assert indexed(place, **cache).field(0, "txt") == "text 000001"
    system.pipe("/replaced/a.tar", second.read_bytes())
    assert indexed(place, **cache).field(0, "txt") == "text 000002"
    system.pipe("/replaced/a.tar", second.read_bytes().replace(b"text", b"TEXT"))
    records = Records(place, sleep=no_wait, **cache)
    with pytest.raises(RunFailedError, match=r"has changed .* has another content\); restore it, or run python -m"):
        records.field(0, "txt")
    records.expect([range(1)])
    with pytest.raises(RunFailedError, match=r"has changed .* has another content\); restore it, or run python -m"):
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
        values = {"index": str(tmp_path / "web.index"), "storage_options": options}
        place = Location(shards=(f"{start}/{{00000..00002}}.tar",), **values)
        records = indexed(place, cache_dir=str(tmp_path / "cache"), cache_bytes=10**9)
        server.sent.clear()
        yield server, records, indexed(location(folder))


def test_of_a_remote_shard_only_the_members_are_fetched(web):
    server, records, local = web
    for row in (1, 7, 14):
        assert records.field(row, "txt") == local.field(row, "txt")
        assert records.key(row) == local.key(row)
    assert server.sent.total() == sum(len(local.field(row, "txt")) for row in (1, 7, 14))
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

        def get_file(self, *_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

    paths = write_shards(tmp_path)
    for path in paths:
        MemoryFileSystem().pipe(f"/full/{path.name}", path.read_bytes())
    place = Location(shards=("memory://full/*.tar",), index=str(tmp_path / "full.index"))
    records = indexed(place, cache_dir=str(tmp_path / "cache"), cache_bytes=10**6)
    fsspec.register_implementation("memory", Full, clobber=True)
    try:
        records.expect([range(5)])
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
    with pytest.raises(RunFailedError, match=rf"\S*/00000.tar cannot be read: .*; {sentence}") as found:
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
    values = {"index": str(tmp_path / "s3.index"), "storage_options": {"endpoint_url": s3}}
    place = Location(shards=("s3://bucket/set/*.tar",), **values)
    records = indexed(place, cache_dir=str(tmp_path / "cache"), cache_bytes=10**6)
    local = indexed(location(tmp_path / "shards"))
    assert [part.checksum for part in records.parts()] == [part.checksum for part in local.parts()]
    assert records.field(7, "txt") == local.field(7, "txt")
    assert not (tmp_path / "cache").exists()
    records.expect([range(5)])
    assert records.image(3) == local.image(3)
    bucket.pipe("bucket/set/00001.tar", b"x" * paths[1].stat().st_size)
    with pytest.raises(RunFailedError, match=r"s3://bucket/set/00001.tar has changed since it was indexed"):
        records.field(8, "txt")
    with pytest.raises(UsageError, match=r"s3://bucket/set/00001.tar .*"):
        indexed(place)


def test_without_credentials_s3_is_one_sentence(s3, monkeypatch, tmp_path):
    for key in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{key}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    S3FileSystem.clear_instance_cache()
    values = {"index": str(tmp_path / "s3.index"), "storage_options": {"endpoint_url": s3}}
    place = Location(shards=("s3://bucket/a.tar",), **values)
    with pytest.raises(UsageError, match=r"s3://bucket/a.tar cannot be read: .*Unable to locate credentials"):
        indexed(place)
