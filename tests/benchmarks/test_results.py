"""Results as text and in a file."""

import math
from dataclasses import replace

from aimv2.analysis.costs.ratios import Median
from benchmarks.results import Result, Table, cell_text, keep, read_results, to_markdown

SURE, UNSURE, SHORT = Median(1.0, 0.96, 1.04, 20), Median(1.5, 1.0, 2.0, 6), Median(2.0, math.nan, math.nan, 2)
TABLE = Table("speeds", [{"loader": "ours", "rate": 1234.5, "ratio": None}, {"loader": "it", "rate": 7, "ratio": SURE}])
RESULT = Result(
    benchmark="data",
    command="python -m benchmarks data repeats=20",
    date="2026-11-28",
    machine="a machine, 2 cores, 1 threads",
    versions={"torch": "2.13"},
    tables=[TABLE],
)


def test_cells_have_four_digits_and_intervals():
    cells = (0.012346, 12345.6, 12345, "text", None, SURE, SHORT)
    assert [cell_text(cell) for cell in cells] == ["0.01235", "12,346", "12,345", "text", "", "1 [0.96, 1.04]", "2"]


def test_a_table_is_markdown_with_aligned_columns():
    assert to_markdown(replace(TABLE, note="A note.")) == (
        "**speeds**\n\n"
        "| loader | rate  | ratio          |\n"
        "| ------ | ----- | -------------- |\n"
        "| ours   | 1,234 |                |\n"
        "| it     | 7     | 1 [0.96, 1.04] |\n\n"
        "A note."
    )


def test_uncertain_medians_are_named_in_a_warning():
    assert TABLE.warning is None
    rows = [{"step": "first", "ratio": UNSURE, "time": SURE}, {"step": "second", "ratio": SHORT, "time": 1.0}]
    warning = Table("", rows).warning
    assert "first (ratio), second (ratio);" in warning
    assert "(time)" not in warning


def test_a_result_replaces_that_of_the_same_command_on_the_same_machine(tmp_path):
    path = tmp_path / "results.json"
    other = replace(RESULT, machine="another machine")
    newer = replace(RESULT, tables=[Table("speeds", [{"loader": "ours", "ratio": SHORT}])], date="2026-11-29")
    for result in (RESULT, other, newer):
        keep(result, path)
    kept = read_results(path)
    assert [(one.machine, one.date) for one in kept] == [("another machine", "2026-11-28"), (newer.machine, newer.date)]
    assert kept[0] == other
    short = kept[1].tables[0].rows[0]["ratio"]
    assert isinstance(short, Median)
    assert math.isnan(short.low)
