"""Columns of tables of any source."""

import pandas as pd
import pytest

from aimv2.analysis.tables import numbers, read_columns
from aimv2.base.errors import UsageError

RUNS = pd.DataFrame({"Name": ["a ", "b"], "loss": [1.5, None], "step": [10, 20]})


@pytest.mark.parametrize("end", [".csv", ".tsv", ".parquet"])
def test_all_kinds_of_files_give_the_same_text(tmp_path, end):
    path = tmp_path / f"runs{end}"
    if end == ".parquet":
        RUNS.to_parquet(path)
    else:
        RUNS.to_csv(path, index=False, sep="\t" if end == ".tsv" else ",")
    found = read_columns(path, {"arm": "Name", "metric": "loss", "n": "step"})
    assert found.to_dict("list") == {"arm": ["a", "b"], "metric": ["1.5", ""], "n": ["10", "20"]}


@pytest.mark.parametrize(("end", "where"), [(".csv", "line 3"), (".parquet", "row 2")])
def test_a_wrong_number_is_named_where_it_stands(tmp_path, end, where):
    with pytest.raises(UsageError, match=f"runs{end}, {where}: loss is '-1', which is not a positive number"):
        numbers(tmp_path / f"runs{end}", pd.Series(["2", "-1"]), "loss", positive=True)


@pytest.mark.parametrize(("name", "content"), [("a.csv", b""), ("a.parquet", b"PAR1"), ("none.csv", None)])
def test_a_file_that_is_no_table_is_said(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name} cannot be read as (CSV|Parquet)"):
        read_columns(tmp_path / name, {})


def test_a_table_without_rows_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n")
    with pytest.raises(UsageError, match="has no rows"):
        read_columns(tmp_path / "a.csv", {"arm": "x"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,y\n1,2,\n", "line 2: 3 values, and the header has 2 columns"),
        ('x,y\n\n"a\nb",1\n\n1\n', "line 6: 1 values, and the header has 2 columns"),
        ("\n\n", "it is empty"),
        ("x,x\n1,2\n", "has several columns 'x', typed as arm="),
    ],
)
def test_rows_that_do_not_fit_are_named_by_their_line(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_columns(tmp_path / "a.csv", {"arm": "x"})


def test_a_wrong_number_after_an_empty_line_is_named_by_its_line(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n\nno\n")
    texts = read_columns(tmp_path / "a.csv", {"n": "x"})["n"]
    with pytest.raises(UsageError, match="line 4: x is 'no'"):
        numbers(tmp_path / "a.csv", texts, "x")


def test_an_index_of_parquet_is_a_column_and_whole_floats_are_whole(tmp_path):
    table = pd.DataFrame({"arm": [1.0, None, 2.0], "loss": [1e300, 0.5, 2.0]}, index=pd.Index([7, 8, 9], name="seed"))
    table.to_parquet(tmp_path / "a.parquet")
    found = read_columns(tmp_path / "a.parquet", {"seed": "seed", "arm": "arm", "loss": "loss"})
    assert found.to_dict("list") == {"seed": ["7", "8", "9"], "arm": ["1", "", "2"], "loss": ["1e+300", "0.5", "2.0"]}
