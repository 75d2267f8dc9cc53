import pytest
from fsspec.implementations.memory import MemoryFileSystem

from aimv2.base.errors import UsageError
from aimv2.datasets.remote import base_of, expand


@pytest.fixture
def folder(tmp_path):
    for name in ("000.tar", "001.tar", "002.tar", "sub/009.tar", "sub/a[1].tar", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
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
        (
            "sftp://host/{0..2}.tar",
            r"has the protocol sftp; allowed are abfs, az, file, ftp, gcs, gs, hf, http, https,",
        ),
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


def test_a_matching_name_that_chains_urls_is_refused():
    MemoryFileSystem().pipe("/chained/a::b.tar", b"")
    with pytest.raises(UsageError, match=r"^shards: 'memory://chained/a::b.tar' chains URLs"):
        expand(["memory://chained/*.tar"])


def test_a_path_may_have_colons(tmp_path):
    (tmp_path / "a::b.tar").write_bytes(b"")
    assert expand([f"{tmp_path}/a::b.tar"]) == [f"{tmp_path}/a::b.tar"]


@pytest.mark.parametrize("protocol", ["http", "https", "s3", "gs", "gcs", "az", "abfs", "hf", "ftp", "file", "memory"])
def test_protocols_of_files_are_allowed(protocol):
    assert expand([f"{protocol}://a/{{0..1}}.tar"]) == [f"{protocol}://a/0.tar", f"{protocol}://a/1.tar"]


def test_urls_are_expanded():
    system = MemoryFileSystem()
    for name in ("b", "a"):
        system.pipe(f"/patterns/{name}.tar", b"")
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
