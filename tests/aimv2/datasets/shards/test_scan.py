import os
import random
import re
import shutil
import subprocess
import tarfile
import zlib

import fsspec
import numpy as np
import pytest
import webdataset as wds
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext

from aimv2.base.address import hash64
from aimv2.base.errors import UsageError
from aimv2.datasets.shards.scan import MAX_EXTENSIONS, row_type, scan, split, state
from aimv2.datasets.shards.tar import first_member
from tests.helpers.programs import skip_without
from tests.helpers.shards import sample, samples_of, write_tar


def found_samples(path):
    """Return hashes of keys and members of the samples that a scan finds, by reading at its positions."""
    found = scan(str(path))
    assert found is not None
    content = path.read_bytes()
    samples = []
    for row in found.rows:
        members = {}
        for extension, (block, size, checksum) in zip(found.extensions, row["members"].tolist(), strict=True):
            if block:
                start = (int(row["block"]) + block - 1) * 512
                member = first_member(content[start : start + 100_000])
                assert member is not None
                assert member.size == size
                members[extension] = content[start + member.data : start + member.data + size]
                assert checksum == zlib.crc32(members[extension])
        samples.append((int(row["key"]), members))
    return samples


def expected_samples(path):
    return [(hash64(key), members) for key, members in samples_of(path)]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_samples_are_those_of_webdataset(kind, tmp_path):
    members = [member for number in range(50) for member in sample(number)[: 1 + number % 3]]
    members += [("dir.x/deep/k1.JPG", b"1"), ("dir.x/deep/k1.seg.png", b""), ("dir.x/other/k1.jpg", b"3")]
    members += [("without", b""), ("__meta__", b"m"), ("__meta__/a.txt", b"m"), (".hidden", b""), ("dir.x/.a.b", b"")]
    members += [("000003.txt", b"a key again, later"), ("000003.jpg", b"another")]
    path = write_tar(tmp_path / "a.tar", members, kind=kind)
    assert found_samples(path) == expected_samples(path)


def test_shards_of_webdatasets_writer_are_read(tmp_path):
    with wds.ShardWriter(str(tmp_path / "%03d.tar"), maxcount=7, verbose=0) as writer:
        for number in range(20):
            writer.write({"__key__": f"{number:05d}", "jpg": os.urandom(1000), "json": {"n": number}, "txt": "words"})
    paths = sorted(tmp_path.glob("*.tar"))
    assert len(paths) == 3
    for path in paths:
        assert found_samples(path) == expected_samples(path)


@given(seed=st.integers(0, 10_000), num_samples=st.integers(2, 12))
def test_members_in_any_order_are_joined_by_their_keys(tmp_path_factory, seed, num_samples):
    draw = random.Random(seed)
    members = [member for number in range(num_samples) for member in sample(number)[: draw.randint(1, 3)]]
    draw.shuffle(members)
    path = write_tar(tmp_path_factory.mktemp("plain") / "a.tar", members)
    expected = {}
    for name, content in members:
        key, extension = name.split(".")
        expected.setdefault(key, {})[extension] = content
    assert found_samples(path) == [(hash64(key), found) for key, found in expected.items()]


def test_a_folder_that_tar_packed_has_whole_samples(tmp_path):
    skip_without(shutil.which("tar"), "no tar")
    for number in range(300):
        for name, content in sample(number, px=1):
            (tmp_path / "pictures").mkdir(exist_ok=True)
            (tmp_path / "pictures" / f"{number * 7919 % 1000:03}.{name.partition('.')[2]}").write_bytes(content)
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", tmp_path, "pictures"], check=True)
    found = found_samples(tmp_path / "a.tar")
    expected = {
        hash64(f"pictures/{path.stem}"): {
            extension: path.with_suffix(f".{extension}").read_bytes() for extension in ("jpg", "txt", "json")
        }
        for path in (tmp_path / "pictures").glob("*.jpg")
    }
    assert dict(found) == expected
    assert len(found) == 300


def test_members_that_are_apart_beside_keys_that_repeat_are_one_sentence(tmp_path):
    apart = [("1.jpg", b"a"), ("2.jpg", b"b"), ("1.txt", b"of 1"), ("2.txt", b"of 2")]
    path = write_tar(tmp_path / "a.tar", [*apart, ("3.jpg", b"c"), ("4.jpg", b"d"), ("3.jpg", b"another")])
    with pytest.raises(UsageError, match=r"a\.tar has members of samples that are apart .* tar --sort=name"):
        scan(str(path))


@given(st.text(st.sampled_from("ab./_\n")))
def test_keys_and_extensions_are_those_of_webdataset(name):
    key, extension = base_plus_ext(name)
    assert split(name) == ((key, extension.lower()) if extension else None)


def test_a_shard_is_described(tmp_path):
    path = write_tar(tmp_path / "a.tar", [*sample(0), *sample(1)])
    found = scan(str(path))
    assert (found.size, found.checksum) == (path.stat().st_size, f"{zlib.crc32(path.read_bytes()):08x}")
    assert found.extensions == ("jpg", "txt", "json")
    assert not found.notes
    assert scan(str(path), state(str(path), {})) is None  # as known


def test_ignored_members_and_odd_keys_are_counted(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in (
            "a.jpg",
            "a.pyd",
            "a.pickle",
            "a.cls.pkl",
            "/etc/b.jpg",
            "../c.jpg",
            "d\n/../e.jpg",
            "f",
            "__m__",
            "a.jpg",
        ):
            tar.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name in ("b.jpg", "a.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    found = scan(str(tmp_path / "a.tar"))
    assert found.extensions == ("jpg",)
    assert [int(key) for key in found.rows["key"]] == [hash64(key) for key in "aba"]
    assert found.notes == {
        "ignored: pickled member": 3,
        "ignored: path that leaves the archive": 3,
        "ignored: name without a key or an extension": 1,
        "ignored: member about the shard": 1,
        "ignored: second member of a sample with the same extension": 1,
        "ignored: symbolic link": 1,
        "odd: sample with the key of an earlier one in its shard": 1,
    }


def test_keys_with_dots_are_told(tmp_path):
    path = write_tar(tmp_path / "a.tar", [(f"a.{number}.jpg", b"") for number in range(MAX_EXTENSIONS + 1)])
    with pytest.raises(UsageError, match=f"more than {MAX_EXTENSIONS} kinds of members, such as 'a.64.jpg'.*no dots"):
        scan(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"<html>" * 500, "is not a tar"), (b"", "is empty")],
)
def test_errors_name_the_shard(content, message, tmp_path):
    path = tmp_path / "a.tar"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"^{re.escape(str(path))} {message}"):
        scan(str(path))


def test_a_shard_without_samples_has_no_rows(tmp_path):
    found = scan(str(write_tar(tmp_path / "a.tar", [])))
    assert found.rows.shape == (0,)
    assert found.rows.dtype == row_type(0)
    assert found.extensions == ()
    assert np.array_equal(found.rows["key"], [])


def test_faults_of_a_server_are_retried(tmp_path):
    content = write_tar(tmp_path / "a.tar", sample(0)).read_bytes()
    system = MemoryFileSystem()
    system.pipe("/scan/a.tar", content)
    left = [RuntimeError("the client's own error"), ConnectionResetError(), TimeoutError()]

    class Flaky(MemoryFileSystem):
        protocol = "flaky"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.replace("flaky://", "memory://"))

        def open(self, *args, **kwargs):
            if left:
                raise left.pop()
            return super().open(*args, **kwargs)

    fsspec.register_implementation("flaky", Flaky, clobber=True)
    waits = []
    found = scan("flaky://scan/a.tar", sleep=waits.append)
    assert found.checksum == f"{zlib.crc32(content):08x}"
    assert len(waits) == 3
    left += [RuntimeError("the client's own error")] * 9
    with pytest.raises(UsageError, match=r"flaky://scan/a\.tar cannot be read: RuntimeError: the client's own error"):
        scan("flaky://scan/a.tar", sleep=waits.append)
