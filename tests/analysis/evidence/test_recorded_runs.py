"""What plans read of records."""

import pytest

from aimv2.analysis.evidence.recorded_runs import FILE, recorded_names, recorded_runs, time_of_runs
from aimv2.analysis.evidence.records import Records, pack
from aimv2.analysis.inference.looks import Look
from aimv2.base.errors import UsageError


@pytest.fixture
def reports_dir(request_of, evidence, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / FILE).write_bytes(pack(Records(request_of, evidence, Look(1))))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / FILE).write_text("none")
    return tmp_path


def test_runs_are_named_by_arm_and_seed(reports_dir, cells):
    assert recorded_runs(reports_dir, "study") == {(cell.arm, cell.seed): cell.name for cell in cells}
    assert recorded_names(reports_dir) == ["broken", "study"]
    assert recorded_runs(reports_dir, "broken") == recorded_runs(reports_dir, "nowhere") == {}


def test_the_time_of_a_run_is_the_mean_of_those_that_trained(reports_dir, evidence):
    trained = evidence.runs[evidence.runs["samples"] > 0]
    assert 0 < len(trained) < len(evidence.runs)
    (hardware,) = trained["hardware"].unique()
    assert time_of_runs(reports_dir, "study") == f"{trained['seconds'].mean():.0f} s on {hardware}"
    with pytest.raises(UsageError, match=r"broken/records\.parquet cannot be read"):
        time_of_runs(reports_dir, "broken")
