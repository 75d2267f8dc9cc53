"""What plans read of records."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.ablations.recorded_runs import FILE, recorded_names, recorded_runs

ROWS = [
    {"arm": "a", "seed": 0, "run": "v2-0"},
    {"arm": "a", "seed": 1, "run": "v2-1"},
    {"arm": "a", "seed": 2, "run": "v2-2"},
    {"arm": "untrained", "seed": 0, "run": "v2-3"},
]


@pytest.fixture
def reports_dir(tmp_path):
    for name in ("study", "broken", "other"):
        (tmp_path / name).mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "study" / FILE)
    pq.write_table(pa.Table.from_pylist(ROWS).drop_columns(["seed"]), tmp_path / "other" / FILE)
    (tmp_path / "broken" / FILE).write_text("none")
    return tmp_path


def test_runs_are_named_by_arm_and_seed(reports_dir):
    assert recorded_runs(reports_dir, "study") == {(row["arm"], row["seed"]): row["run"] for row in ROWS}
    assert recorded_names(reports_dir) == ["broken", "other", "study"]
    assert [recorded_runs(reports_dir, name) for name in ("broken", "other", "nowhere")] == [{}, {}, {}]
