"""Runs of others' records that are executed again here."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.analysis import report
from aimv2.analysis.evidence.others import STATUS
from aimv2.analysis.evidence.recorded import FILE
from aimv2.base.files import read_json
from aimv2.sweeps import manage
from aimv2.sweeps.publish import PublishOptions, publish_study


@pytest.fixture(scope="module")
def added(done, tmp_path_factory):
    """The folder of the records of a finished sweep, as others would have added them."""
    folder = tmp_path_factory.mktemp("others")
    options = PublishOptions(to=folder / "study", reports_dir=folder / "reports", code=False)
    publish_study(done, "prefix_ratio", options, lambda text: None)
    places = (f"records_dir={folder / 'records'}", f"reports_dir={folder / 'reports'}")
    assert report.main(["add", str(folder / "study.zip"), *places]) == 0
    return next((folder / "records").iterdir())


@pytest.fixture
def copied_records(added, tmp_path):
    return shutil.copytree(added, tmp_path / "records" / added.name)


@pytest.fixture
def replayed(done, copied_records, cache_dir, capsys):
    """Replay a run; gives the exit status, the output and the recorded status."""

    def run(name, *more):
        places = (f"records={copied_records}", f"runs_dir={done}", f"data.cache_dir={cache_dir}")
        status = manage.main(["replay", name, *places, *more])
        shown = capsys.readouterr()
        return status, " ".join((shown.out + shown.err).split()), read_json(copied_records / STATUS)

    return run


def shifted(folder, share):
    """Change the first metric of every run by a share of it."""
    path = folder / FILE
    table, about = pq.read_table(path), pq.read_metadata(path).metadata
    runs = table["metrics"].to_pylist()
    for metrics in runs:
        metrics[0]["value"] *= 1 + share
    place = table.column_names.index("metrics")
    table = table.set_column(place, "metrics", pa.array(runs, table.schema.field("metrics").type))
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"aimv2_records": about[b"aimv2_records"]})


def names(folder):
    table = pq.read_table(folder / FILE)
    return {row["arm"]: row["run"] for row in table.select(["arm", "run"]).to_pylist()}


@pytest.mark.exhaustive
def test_a_run_is_equal_to_the_last_bit_and_marked(replayed, copied_records):
    status, shown, recorded = replayed(names(copied_records)["uniform"])
    assert status == 0, shown
    assert "0 differ" in shown
    assert "replayed: 1 of 2 runs, equal to the last bit" in shown
    assert recorded["replayed"]
    (one,) = recorded["replays"]
    assert (one["run"], one["tolerance"], one["is_equal"]) == (names(copied_records)["uniform"], 0.0, True)
    assert one["hardware"].endswith("1 threads")


@pytest.mark.exhaustive
def test_other_values_are_marked_as_such_unless_they_are_within_the_tolerance(replayed, copied_records):
    shifted(copied_records, 1e-4)
    name = names(copied_records)["uniform"]
    status, shown, recorded = replayed(name)
    assert status == 1
    assert "1 differ largest difference: caption_loss was" in shown
    assert "replayed, and 1 of 1 runs have other values" in shown
    assert not recorded["replayed"]
    status, shown, recorded = replayed(name, "tolerance=0.001")
    assert status == 0
    assert "within 0.001 of each value" in shown
    assert recorded["replayed"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("v2-", (), "2 finished runs of"),
        ("v3", (), "0 finished runs of"),
        ("v2-", ("tolerance=0.5",), "tolerance=0.5 must be between 0, to the last bit, and 0.1"),
        ("v2-", ("tolerance=much",), "tolerance: "),
    ],
)
def test_what_cannot_be_replayed_is_refused(replayed, name, more, message):
    status, shown, recorded = replayed(name, *more)
    assert status == 2
    assert message in shown
    assert recorded["replays"] == []


@pytest.mark.exhaustive
def test_a_run_that_starts_from_weights_is_refused(replayed, copied_records):
    path = copied_records / FILE
    table, metadata = pq.read_table(path), pq.read_metadata(path).metadata
    about = json.loads(metadata[b"aimv2_records"])
    about["request"]["configs"]["uniform"]["start"]["weights"] = "weights/encoder"
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"aimv2_records": json.dumps(about)})
    status, shown, _ = replayed(names(copied_records)["uniform"])
    assert status == 2
    assert "needs weights to start from, which records do not have" in shown


def test_keys_of_others_need_others(done, capsys):
    assert manage.main(["replay", "v2-", "tolerance=0.1", f"runs_dir={done}"]) == 2
    assert "tolerance= is for runs of others; type records=records/NAME too" in " ".join(
        capsys.readouterr().err.split()
    )
