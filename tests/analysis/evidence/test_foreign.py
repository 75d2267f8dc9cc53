"""Files that hold other columns than records, or none; those of others are in test_others.py."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.analysis.evidence.foreign import COLUMNS, OF_PAIRS, run_names
from aimv2.base.errors import UsageError

VALUES = {"text": "a", "integer": 1, "number": 0.5, "flag": True}


def written(**columns):
    plain = {name: [VALUES[kind]] for name, kind in COLUMNS.items() if name not in OF_PAIRS}
    pq.write_table(pa.table(plain | {"metrics": [[{"metric": "loss", "value": 1.0}]]} | columns), sink := io.BytesIO())
    return sink.getvalue()


def test_the_names_of_runs_are_read_where_all_columns_are_those_of_records():
    assert run_names(written(run=["v2-0"]), 2**20, "records") == ["v2-0"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"seed": ["one"]}, "column 'seed' is no column of records, or of another kind"),
        ({"metrics": [1]}, "column 'metrics' is no column of records, or of another kind"),
        ({"other": [1]}, "column 'other' is no column of records, or of another kind"),
    ],
)
def test_columns_of_another_kind_are_refused(columns, message):
    with pytest.raises(UsageError, match=message):
        run_names(written(**columns), 2**20, "records")


def test_what_is_no_table_is_refused():
    with pytest.raises(UsageError, match="records is not a file of records"):
        run_names(b"nothing", 2**20, "records")
