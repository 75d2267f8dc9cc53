"""Finished runs that are executed again: of a runs folder and of a report's records, and with a changed record."""

import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.ablations.recorded_runs import FILE
from aimv2.analysis.evidence.records import KEY
from aimv2.analysis.publish import publish_study
from aimv2.base.errors import UsageError
from aimv2.config.run_config import RunConfig
from aimv2.run.execute import execute
from aimv2.runs.failure import Failure
from aimv2.runs.record import RunFolder
from aimv2.sweeps import manage
from aimv2.sweeps.replay import recorded_in_folder, replay


@pytest.fixture(scope="module")
def finished_run(tiny, pairs, tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("runs"), tiny.name)
    assert execute(run.acquire(tiny), tiny) is None
    return run


@pytest.fixture
def copied_run(finished_run, tmp_path):
    """Return a copy of the run, to change."""
    shutil.copytree(finished_run.path, tmp_path / finished_run.name)
    return RunFolder(tmp_path, finished_run.name)


def changed(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_unchanged_run_is_equal_and_nothing_is_left_behind(finished_run, capsys):
    before = sorted(finished_run.path.rglob("*"))
    assert manage.main(["replay", finished_run.name[:10], f"runs_dir={finished_run.path.parent}"]) == 0
    first, second, *others = capsys.readouterr().out.splitlines()
    assert first == f"executing {finished_run.name} again in a temporary folder"
    num_values = int(second.removesuffix(" values of steps and final metrics compared, 0 differ"))
    assert num_values > 2 * 5, "some values at each of two steps"
    assert others == ["equal to the last bit"]
    assert sorted(finished_run.path.rglob("*")) == before


def test_the_largest_difference_missing_metrics_and_another_setup_are_named(copied_run):
    metrics, lines = copied_run.result()["metrics"], []
    was = metrics["probe_digits"]["value"]
    metrics["probe_digits"]["value"] += 0.5
    del metrics["caption_loss"]
    changed(copied_run.path / "result.json", metrics=metrics | {"other": {"value": 1.0}})
    changed(copied_run.file("manifest.json"), threads=64)
    assert not replay(recorded_in_folder(copied_run), lines.append)
    assert lines[2:] == [
        f"largest difference: probe_digits was {was + 0.5!r} and is {was!r}",
        "only in the record: other",
        "only in the replay: caption_loss",
        "threads was 64 and is 1",
        "not equal",
    ]


def test_a_config_of_another_name_and_an_unfinished_run_are_refused(copied_run, tiny, tmp_path, capsys):
    changed(copied_run.path / "config.json", seed=99)
    with pytest.raises(UsageError, match="this version names it differently"):
        recorded_in_folder(copied_run)
    run = RunFolder(tmp_path / "other", tiny.name)
    with run.acquire(tiny) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    assert manage.main(["replay", run.name, f"runs_dir={tmp_path / 'other'}"]) == 2
    assert "is not done yet; only a finished run can be replayed" in " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def report(done, tmp_path_factory):
    """A folder with the records of a finished sweep, as others have published them."""
    folder = tmp_path_factory.mktemp("others")
    publish_study(done, "prefix_ratio", folder / "a.zip", "", folder)
    shutil.unpack_archive(folder / "a.zip", folder / "unpacked")
    return folder / "unpacked" / "prefix_ratio"


@pytest.fixture
def copied(report, tmp_path):
    return shutil.copytree(report, tmp_path / report.name)


@pytest.fixture
def replayed(copied, cache_dir, capsys):
    """Replay a run of the records; gives the exit status and the output."""

    def run(name, *more):
        status = manage.main(["replay", name, f"records={copied}", f"data.cache_dir={cache_dir}", *more])
        shown = capsys.readouterr()
        return status, " ".join((shown.out + shown.err).split())

    return run


def rewrite(folder, change):
    """Write the records again after ``change`` has changed the rows and the description."""
    path = folder / FILE
    rows, about = pq.read_table(path), json.loads(pq.read_metadata(path).metadata[KEY])
    rows = change(rows, about) or rows
    with pq.ParquetWriter(path, rows.schema) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({KEY: json.dumps(about)})


def name_of(folder, arm="uniform"):
    rows = pq.read_table(folder / FILE, columns=["arm", "run"]).to_pylist()
    return next(row["run"] for row in rows if row["arm"] == arm)


@pytest.mark.exhaustive
def test_a_run_of_records_is_equal_to_the_last_bit(replayed, copied):
    status, shown = replayed(name_of(copied))
    assert status == 0, shown
    assert "0 differ" in shown
    assert shown.endswith("equal to the last bit")


@pytest.mark.exhaustive
def test_other_values_differ_unless_they_are_within_the_tolerance(replayed, copied):
    def shift(rows, about):
        runs = rows["metrics"].to_pylist()
        for metrics in runs:
            metrics[0]["value"] *= 1 + 1e-4
        place = rows.column_names.index("metrics")
        return rows.set_column(place, "metrics", pa.array(runs, rows.schema.field("metrics").type))

    rewrite(copied, shift)
    status, shown = replayed(name_of(copied))
    assert status == 1
    assert "1 differ largest difference: caption_loss was" in shown
    assert shown.endswith("not equal")
    status, shown = replayed(name_of(copied), "tolerance=0.001")
    assert status == 0
    assert "equal within 0.001 of each value" in shown


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("v2-", (), "2 finished runs of"),
        ("v3", (), "0 finished runs of"),
        (None, ("tolerance=0.5",), "tolerance=0.5 must be between 0, to the last bit, and 0.1"),
        (None, ("tolerance=much",), "tolerance: "),
    ],
)
def test_what_cannot_be_replayed_is_refused(replayed, copied, name, more, message):
    status, shown = replayed(name or name_of(copied), *more)
    assert status == 2
    assert message in shown


@pytest.mark.exhaustive
def test_a_run_that_starts_from_weights_is_refused(replayed, copied):
    def start(rows, about):
        about["request"]["configs"]["uniform"]["start"].update(weights="weights/x")
        config, names = RunConfig.from_dict(about["request"]["configs"]["uniform"]), rows["run"].to_pylist()
        for place, (arm, seed) in enumerate(zip(rows["arm"].to_pylist(), rows["seed"].to_pylist(), strict=True)):
            names[place] = replace(config, seed=seed).name if arm == "uniform" else names[place]
        return rows.set_column(rows.column_names.index("run"), rows.schema.field("run"), pa.array(names))

    rewrite(copied, start)
    status, shown = replayed(name_of(copied))
    assert (status, "this run needs weights to start from, which records do not have" in shown) == (2, True), shown


def test_a_key_of_records_needs_records(done, capsys):
    assert manage.main(["replay", "v2-", "data.cache_dir=x", f"runs_dir={done}"]) == 2
    assert "data.cache_dir= is for runs of records" in " ".join(capsys.readouterr().err.split())
