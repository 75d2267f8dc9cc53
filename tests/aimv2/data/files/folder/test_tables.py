import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aimv2.base.errors import UsageError
from aimv2.datasets.folder import tables
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.own_data import write

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=9)
ROWS = st.lists(st.fixed_dictionaries({"image": WORDS, "caption": WORDS, "score": WORDS}), min_size=1, max_size=5)


def rows_of(path):
    return [row for batch in tables.read_batches(path) for row in batch.to_pylist()]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
@given(rows=ROWS)
def test_text_tables_are_read_as_the_csv_module_wrote_them(tmp_path_factory, suffix, delimiter, rows):
    path = tmp_path_factory.mktemp("table") / f"t{suffix}"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    # QUOTE_ALL writes an empty text as "", which means a missing value here.
    assert rows_of(path) == [{name: value or None for name, value in row.items()} for row in rows]


def test_columns_of_text_tables_stay_text(tmp_path):
    path = write(tmp_path / "t.csv", "image,label,score,when\na.jpg,007,0.5,2020-01-01\nb.jpg,,x,\n")
    assert rows_of(path) == [
        {"image": "a.jpg", "label": "007", "score": "0.5", "when": "2020-01-01"},
        {"image": "b.jpg", "label": None, "score": "x", "when": None},
    ]


def test_rows_of_json_lines_need_not_have_the_same_columns_and_types(tmp_path):
    rows = [{"image": "a", "captions": ["x", "y"]}, {"image": "b", "captions": "z", "n": {"m": 1}}]
    path = write(tmp_path / "t.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    (batch,) = tables.read_batches(path)
    assert [json.loads(row) for row in batch.column(tables.JSON_ROW).to_pylist()] == rows
    assert tables.column(batch, "captions") == [["x", "y"], "z"]
    assert tables.column(batch, "n") == [None, {"m": 1}]
    assert tables.column(batch, "other") is None


def test_parquet_keeps_its_types_and_leaves_bytes_out(tmp_path):
    columns = {"image": ["a", "b"], "score": [0.5, None], "captions": [["x"], []], "content": [b"1", b"2"]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.parquet") == [
        {"image": "a", "score": 0.5, "captions": ["x"]},
        {"image": "b", "score": None, "captions": []},
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.xlsx", "", r"must end in one of \.csv, \.tsv"),
        ("t.csv", "a,b\n1,2\n3\n", "cannot be read"),
        ("t.csv", "", "cannot be read"),
        ("t.csv", b"image\n\xff\xff\n", "cannot be read"),
        ("t.jsonl", '{"image": "a"}\n{"image": \n', "line 2 of .* is not JSON"),
        ("t.jsonl", "[1]\n", "line 1 of .* must be a JSON object"),
        ("t.jsonl", b"\xff\n", "cannot be read"),
        ("t.parquet", "PAR1", "cannot be read"),
        ("missing.csv", None, "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path, name, content, sentence):
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(UsageError, match=f"^table: .*{sentence}"):
        rows_of(tmp_path / name)
