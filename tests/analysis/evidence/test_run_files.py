import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aimv2.analysis.evidence.run_files import BLOCK, held_out_rows, in_threads, read_items, scan_rows
from aimv2.base.errors import UsageError


def write(path, **columns):
    pd.DataFrame(columns).to_parquet(path)
    return path


def test_runs_with_other_columns_are_one_table(tmp_path):
    """Also one without rows, whose columns have no type, and a run of two cells."""
    one = write(tmp_path / "1", step=[0, 1, 2], text_loss=[3.0, 2.0, 1.0], held_out_loss=[4.0, None, 2.0])
    two = write(tmp_path / "2", held_out_bits=[None, 8.0], step=[0, 1], text_loss=[5.0, 6.0])
    none = write(tmp_path / "3", step=[], samples=[])
    rows = scan_rows({("a", 0): one, ("b", 0): two, ("untrained", 0): none, ("c", 7): one}).collect().to_pandas()
    assert len(rows) == 8
    means = rows.groupby("arm")["text_loss"].mean()
    assert means.to_dict() == {"a": 2.0, "b": 5.5, "c": 2.0}
    assert rows.loc[rows["arm"] == "c", "seed"].unique() == [7]


def test_columns_are_those_of_each_file_with_or_without_arrows_schema(tmp_path):
    """Polars and pandas store Arrow's schema in the metadata, others need not. Types differ too."""
    table = pa.table({"step": pa.array([0, 1], pa.int64()), "loss": pa.array([1.0, 2.0], pa.float32())})
    wide = table.set_column(1, "loss", table["loss"].cast(pa.float64()))
    files = {}
    for number, content in enumerate((table, table, wide, table.drop_columns("loss"))):
        for stores in (True, False):
            files[f"{number} {stores}", 0] = path = tmp_path / f"{number} {stores}"
            pq.write_table(content, path, store_schema=stores)
    rows = scan_rows(files).collect()
    assert rows.schema["loss"] == pl.Float64
    losses = {
        arm: part["loss"].to_list() for (arm,), part in rows.sort("step").partition_by("arm", as_dict=True).items()
    }
    assert losses == {arm: [None, None] if arm.startswith("3") else [1.0, 2.0] for arm, _ in files}


def test_threads_keep_the_order_and_the_first_error():
    items = range(3 * BLOCK + 1)
    assert in_threads(str, items) == [str(item) for item in items]
    assert in_threads(str, []) == []

    def fail(item):
        if item % (BLOCK + 10) == BLOCK + 9:
            raise UsageError(f"item {item}")

    with pytest.raises(UsageError, match=f"^item {BLOCK + 9}$"):
        in_threads(fail, items)


def test_curves_are_in_the_order_of_runs_and_steps(tmp_path):
    def run(name, values, **held_out):
        numbers = list(range(len(values)))
        return write(
            tmp_path / name,
            step=numbers,
            samples=numbers,
            train_flops=numbers,
            seconds=numbers,
            loss=values,
            **held_out,
        )

    last = run("1", [1.0, 2.0, 3.0], held_out_loss=[4.0, None, 2.0])
    first = run("2", [1.0, 2.0], held_out_bits=[None, 8.0])
    curves = held_out_rows(scan_rows({("z", 0): first, ("a", 0): last}))
    assert "loss" not in curves
    expected = [("z", 1, None, 8.0), ("a", 0, 4.0, None), ("a", 2, 2.0, None)]
    found = curves[["arm", "step", "held_out_loss", "held_out_bits"]].astype(object)
    assert list(found.where(curves.notna(), None).itertuples(index=False, name=None)) == expected


def test_without_held_out_values_there_are_no_curves(tmp_path):
    untrained = {("untrained", 0): write(tmp_path / "1", step=[], samples=[])}
    for files in ({}, untrained):
        assert held_out_rows(scan_rows(files)).empty


def test_parts_of_an_item_are_summed(tmp_path):
    rows = {"metric": ["loss", "loss", "loss", "other"], "item": [9, 7, 9, 7]}
    path = write(tmp_path / "1", **rows, total=[1.0, 2.0, 1.0, 5.0], weight=[2.0, 1.0, 1.0, 1.0])
    parts = read_items({("a", 0): path, ("b", 0): path}, "loss")
    assert list(parts) == [("a", 0), ("b", 0)]
    # A ratio of 4 / 4: 2 - 1 x 1 and 2 - 1 x 3, over a mean weight of 2.
    assert parts["a", 0].to_dict() == {7: 0.5, 9: -0.5}
    assert read_items({("a", 0): path}, "accuracy") == {}


def test_broken_files_are_named(tmp_path):
    good = write(tmp_path / "1", metric=["loss"], item=[1], total=[1.0], weight=[1.0])
    bad = tmp_path / "2"
    bad.write_text("broken")
    for read in (scan_rows, lambda files: read_items(files, "loss")):
        with pytest.raises(UsageError, match=f"{bad} cannot be read; delete the run's folder"):
            read({("a", 0): good, ("a", 1): bad})
    other = write(tmp_path / "3", nothing=[1])
    with pytest.raises(UsageError, match=r"cannot be read"):
        read_items({("a", 0): other}, "loss")
