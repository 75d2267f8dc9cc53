"""What plans read of records."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.ablations.recorded_runs import FILE, recorded_names, recorded_runs, time_of_runs
from aimv2.base.errors import UsageError

ROWS = [
    {"arm": "a", "seed": 0, "run": "v2-0", "samples": 9, "seconds": 3.0, "hardware": "a CPU"},
    {"arm": "a", "seed": 1, "run": "v2-1", "samples": 9, "seconds": 5.0, "hardware": "a CPU"},
    {"arm": "a", "seed": 2, "run": "v2-2", "samples": None, "seconds": None, "hardware": None},
    {"arm": "untrained", "seed": 0, "run": "v2-3", "samples": 0, "seconds": 1.0, "hardware": "another"},
]


@pytest.fixture
def reports_dir(tmp_path):
    for name in ("study", "broken"):
        (tmp_path / name).mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "study" / FILE)
    (tmp_path / "broken" / FILE).write_text("none")
    return tmp_path


def test_runs_are_named_by_arm_and_seed(reports_dir):
    assert recorded_runs(reports_dir, "study") == {(row["arm"], row["seed"]): row["run"] for row in ROWS}
    assert recorded_names(reports_dir) == ["broken", "study"]
    assert recorded_runs(reports_dir, "broken") == recorded_runs(reports_dir, "nowhere") == {}


def test_the_time_of_a_run_is_the_mean_of_those_that_trained(reports_dir):
    assert time_of_runs(reports_dir, "study") == "4 s on a CPU"
    with pytest.raises(UsageError, match=r"broken/records\.parquet cannot be read"):
        time_of_runs(reports_dir, "broken")
