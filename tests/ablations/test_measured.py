"""Records of metrics that were measured on the finished runs of a study."""

from dataclasses import replace

import pytest

from aimv2.ablations.expand import Cell
from aimv2.ablations.measured import MeasuredMetric, measuring_runs, read_measured
from aimv2.ablations.request import requested_names, requested_runs
from aimv2.base.errors import UsageError
from aimv2.base.files import write_json
from aimv2.config.program import replaced
from aimv2.definitions.metrics import lower_is_better, unit_of
from tests.helpers.measured import write_measured

METRIC = MeasuredMetric(
    name="alignment",
    unit="similarity",
    lower_is_better=False,
    plugin="my.py@aaaaaaaaaaaa",
    digest="0123456789ab",
    typed="my.py:alignment",
)
EDITED = replace(METRIC, digest="ba9876543210")


def test_the_newest_of_each_name_counts_and_all_runs_are_known(tmp_path):
    assert (read_measured(tmp_path, "study"), measuring_runs(tmp_path, "study")) == ((), set())
    other = replace(METRIC, name="rank", unit="", lower_is_better=True)
    for metric, runs in ((METRIC, ["a"]), (EDITED, ["b"]), (other, ["c"])):
        write_measured(tmp_path, "study", metric, runs)
    assert read_measured(tmp_path, "study") == (EDITED, other)
    assert measuring_runs(tmp_path, "study") == {"a", "b", "c"}
    assert (unit_of("rank"), lower_is_better("rank"), lower_is_better("alignment")) == ("", True, False)
    write_measured(tmp_path, "study", METRIC, ["a"])
    assert read_measured(tmp_path, "study") == (METRIC, other), "a version that is named again is the newest"
    assert len(list((tmp_path / "studies/study/metrics").iterdir())) == 3
    assert read_measured(tmp_path, "another") == ()
    assert requested_names(tmp_path) == [], "they are no launches"


def test_runs_that_measure_are_no_single_runs(tmp_path):
    write_measured(tmp_path, "study", METRIC, ["a"])
    write_json(tmp_path / "studies/study/request.json", {"cells": [{"run": "b"}]})
    assert requested_runs(tmp_path) == {"a", "b"}


def test_broken_records_are_left_out(tmp_path):
    write_measured(tmp_path, "study", METRIC, ["a"])
    folder = tmp_path / "studies/study/metrics"
    (folder / "torn.json").write_text("{")
    for name, values in (
        ("list", []),
        ("lacks", {"metric": {}}),
        ("other", {"metric": {"x": 1}, "runs": [], "time": 9e9}),
    ):
        write_json(folder / f"{name}.json", values)
    assert read_measured(tmp_path, "study") == (METRIC,)


OTHER_DIRECTION = """
from aimv2.definitions.metrics import metric

@metric("similarity", lower_is_better=True)
def alignment(model):
    return 0.5
"""


def test_a_direction_may_be_corrected(tmp_path, plugged):
    """By an edited file of the same name, which is loaded while the record of the earlier one is read."""
    write_measured(tmp_path, "study", METRIC, [])
    plugged(OTHER_DIRECTION, "my.py")
    assert read_measured(tmp_path, "study") == (METRIC,)
    assert lower_is_better("alignment")
    corrected = replace(METRIC, lower_is_better=True, digest="1" * 12)
    write_measured(tmp_path, "study", corrected, [])
    assert read_measured(tmp_path, "study") == (corrected,)


def test_two_directions_of_one_name_are_refused(tmp_path, plugged):
    write_measured(tmp_path, "study", METRIC, [])
    plugged(OTHER_DIRECTION, "other.py")
    with pytest.raises(UsageError, match="two metrics are called 'alignment', and lower values are better in only one"):
        read_measured(tmp_path, "study")


def test_run_that_measures_is_named_after_the_run_the_metric_and_its_content(tiny):
    cells = [Cell(arm="a", seed=seed, config=replaced(tiny, {"seed": seed})) for seed in (0, 1)]
    metrics = [METRIC, EDITED, replace(METRIC, name="rank")]
    names = {one.name for metric in metrics for one in metric.cells(cells)}
    assert len(names | {cell.name for cell in cells}) == 8
    of_plugin = replace(METRIC, typed="elsewhere.py:alignment")
    assert of_plugin.cells(cells)[0].name == METRIC.cells(cells)[0].name
    assert METRIC.cells(cells)[0].arm == "a: alignment"


def test_a_run_may_have_the_metric_itself(tiny):
    own = replace(tiny, plugins={"evaluation.metrics.alignment": METRIC.plugin})
    assert METRIC.is_measured_by(Cell(arm="a", seed=0, config=own))
    edited = replace(METRIC, plugin="my.py@bbbbbbbbbbbb")
    assert not edited.is_measured_by(Cell(arm="a", seed=0, config=own))
    assert not METRIC.is_measured_by(Cell(arm="a", seed=0, config=tiny))
