"""Records of others: what is copied, what is refused, and what a replay is recorded as."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.analysis.evidence.others import (
    CARD,
    STATUS,
    VERSIONS,
    Replayed,
    check_no_pickle,
    check_others,
    keep,
    mark_replayed,
    others_names,
    read_others,
)
from aimv2.analysis.evidence.recorded import FILE
from aimv2.analysis.evidence.records import KEY, Records, pack
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.report import portable
from aimv2.base.archive import check_archive, write_sums
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json

REPLAYED = Replayed(
    run="v2-0123456789ab", date="2026-03-01", hardware="a CPU, 1 threads", code="c" * 12, tolerance=0.0, is_equal=True
)


@pytest.fixture(scope="module")
def packed(request_of, evidence):
    return pack(Records(portable(request_of), evidence, Look(1)))


@pytest.fixture
def archive(packed, tmp_path):
    folder = tmp_path / "archive"
    (folder / "code").mkdir(parents=True)
    for name, content in {FILE: packed, CARD: b"# a card", VERSIONS: b"[]", "code/run.py": b"evil()"}.items():
        (folder / name).write_bytes(content)
    write_sums(folder)
    return check_archive(folder)


@pytest.fixture
def added(archive, packed, tmp_path):
    """The folder of records that were added."""
    name = keep(archive, check_others(packed, STUDIES, "a"), packed, tmp_path / "records", "2026-02-03")
    return tmp_path / "records" / name


def changed(packed, change=lambda table: table, about=lambda values: values):
    """Return a file of records with another table, or other values in its metadata."""
    file = pq.ParquetFile(pa.BufferReader(packed))
    values = about(json.loads(file.metadata.metadata[KEY]))
    table, sink = change(file.read()), pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({KEY: json.dumps(values)})
    return bytes(sink.getvalue())


def without(*names):
    return lambda table: table.drop_columns(list(names))


def with_column(name, values):
    return lambda table: table.drop_columns([one for one in table.column_names if one == name]).append_column(
        name, pa.array(values(table.num_rows))
    )


def test_records_have_a_folder_that_is_named_by_their_content_and_nothing_of_others_code(added, packed):
    assert added.name.startswith("prefix_ratio_test-")
    assert sorted(path.name for path in added.iterdir()) == sorted([FILE, CARD, VERSIONS, STATUS])
    assert (added / FILE).read_bytes() == packed
    status = read_json(added / STATUS)
    assert (status["replayed"], status["added"], status["replays"]) == (False, "2026-02-03", [])
    assert others_names(added.parent) == [added.name]
    found = read_others(added.parent, added.name, STUDIES)
    assert found.described == "not replayed"
    assert len(found.records.evidence.runs) == len(found.records.request.cells)


def labelled(text, arm="of_their_own"):
    def about(values):
        values["request"]["adapted"]["arms"][arm] = text
        return values

    return about


@pytest.mark.parametrize(
    "text", ["<script>1</script>", "a | b", "`a`", "[a](javascript:b)", "[a]: b", "a\nb", "\x1b[31m"]
)
def test_markup_in_what_pages_show_is_refused(packed, text):
    with pytest.raises(UsageError, match="is not plain text, and would be shown as markup"):
        check_others(changed(packed, about=labelled(text)), STUDIES, "a")


def test_other_labels_are_read(packed):
    found = check_others(changed(packed, about=labelled("causal, M = 1 [all] (seen)")), STUDIES, "a")
    assert found.request.study.label("of_their_own") == "causal, M = 1 [all] (seen)"


def test_labels_of_known_arms_are_those_of_the_catalogue(packed):
    found = check_others(changed(packed, about=labelled("better than all", "causal")), STUDIES, "a")
    assert found.request.study.label("causal") == STUDIES["prefix_ratio"].label("causal")


def test_the_same_records_are_not_added_twice(added, archive, packed):
    before = {path: path.read_bytes() for path in added.iterdir()}
    with pytest.raises(UsageError, match="has these records already"):
        keep(archive, check_others(packed, STUDIES, "a"), packed, added.parent, "2026-02-04")
    assert {path: path.read_bytes() for path in added.iterdir()} == before


def test_nothing_is_half_written(archive, packed, tmp_path):
    records = check_others(packed, STUDIES, "a")
    (archive.path / CARD).write_bytes(b"# another card")
    with pytest.raises(UsageError, match=r"README.md is not the file of its checksum"):
        keep(archive, records, packed, tmp_path / "records", "2026-02-03")
    assert not (tmp_path / "records").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        keep(check_archive_again(archive), records, packed, tmp_path / "file" / "records", "2026-02-03")


def check_archive_again(archive):
    write_sums(archive.path)
    return check_archive(archive.path)


def test_what_may_be_a_pickle_is_refused(archive):
    check_no_pickle(archive)
    (archive.path / "weights.PT").touch()
    with pytest.raises(UsageError, match=r"may run code when they are read: weights.PT"):
        check_no_pickle(check_archive_again(archive))


def other_seed(values):
    values["request"]["cells"][0]["run_seed"] = 17
    return values


def other_study(values):
    values["request"]["sweep"]["slug"] = "of somebody"
    return values


def other_config(values):
    arm = values["request"]["cells"][0]["arm"]
    values["request"]["configs"][arm]["optimizer"]["peak_lr"] = 0.5
    return values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": other_seed}, "is not the name of its config, which is v2-"),
        ({"about": other_config}, "is not the name of its config, which is v2-"),
        ({"about": other_study}, "is not the record of a launch of a study that this version knows"),
        ({"about": lambda values: values | {"version": 99}}, "has records of version 99"),
        ({"about": lambda values: []}, "is not a file of records"),
        ({"change": without("metrics")}, "lacks columns of records: metrics"),
        ({"change": without("seconds", "code")}, "lacks columns of records: code, seconds"),
        ({"change": lambda table: table.slice(1)}, "a is not a file of records"),
        ({"change": with_column("more", lambda n: [1] * n)}, "column 'more' is no column of records"),
        ({"change": with_column("seconds", lambda n: ["1"] * n)}, "column 'seconds' is no column of records, or of"),
        ({"change": with_column("run", lambda n: ["v2-0123456789ab"] * n)}, "is not the name of its config"),
        ({"change": with_column("metrics", lambda n: [[{"a": {"b": 1}}]] * n)}, "column 'metrics' is no column of"),
        ({"change": with_column("metrics", lambda n: [b"x"] * n)}, "column 'metrics' is no column of"),
    ],
)
def test_records_that_do_not_fit_are_refused(packed, changes, message):
    assert check_others(changed(packed), STUDIES, "a"), "the way of changing is none itself"
    with pytest.raises(UsageError, match=message) as refused:
        check_others(changed(packed, **changes), STUDIES, "a")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_refused(content):
    with pytest.raises(UsageError, match="a is not a file of records"):
        check_others(content, STUDIES, "a")


def test_a_small_file_with_many_values_is_refused_unread(packed):
    many = with_column("run", lambda n: ["v2-0123456789ab"] * n)
    table = many(pq.read_table(pa.BufferReader(packed)))
    long = pa.concat_tables([table.select(["run"])] * (100_001 // table.num_rows + 1))
    sink = pa.BufferOutputStream()
    pq.write_table(long, sink)
    with pytest.raises(UsageError, match="is too large for records: at most 100,000 runs"):
        check_others(bytes(sink.getvalue()), STUDIES, "a")


def test_replays_are_recorded_once_for_each_run_and_hardware(added):
    def mark(**values):
        return mark_replayed(added.parent, added.name, Replayed(**vars(REPLAYED) | values))

    assert mark().described(28) == "replayed: 1 of 28 runs, equal to the last bit (a CPU, 1 threads, 2026-03-01)"
    assert len(mark(date="2026-03-02").replays) == 1
    assert mark(hardware="another").described(28).startswith("replayed: 1 of 28 runs, equal to the last bit (a CPU, ")
    status = mark(run="v2-ba9876543210", tolerance=0.001)
    assert status.replayed
    assert status.described(28).startswith("replayed: 2 of 28 runs, within 0.001 of each value (")
    status = mark(hardware="another", is_equal=False)
    assert not status.replayed
    assert status.described(28) == "replayed, and 1 of 2 runs have other values"
    assert read_others(added.parent, added.name, STUDIES).status == status


def test_unknown_records_and_a_broken_status_are_refused(added):
    with pytest.raises(UsageError, match=f"has no records 'other' of others; it has: {added.name}"):
        read_others(added.parent, "other", STUDIES)
    (added / STATUS).write_text('{"replayed": "perhaps"}')
    with pytest.raises(UsageError, match="is not the status of records of others"):
        read_others(added.parent, added.name, STUDIES)
