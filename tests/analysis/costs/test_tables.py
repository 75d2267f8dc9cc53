"""Tables of a cost study, on made-up timings with known ratios."""

from aimv2.analysis.costs.tables import encoders_section, flops_section, training_section
from aimv2.analysis.document.model import Table, walk
from tests.helpers.costs import measurements
from tests.helpers.documents import lines_of


def tables(section):
    return [block for block in walk([section]) if isinstance(block, Table)]


def rows(table):
    return [dict(zip(table.columns, ("\n".join(lines_of(cell)) for cell in row), strict=True)) for row in table.rows]


def test_encoder_row_has_percentiles_rates_and_ratios():
    (table, _) = tables(encoders_section(measurements()))
    _, clip, *_ = [row for row in rows(table) if row["batch"] == "4"]
    assert clip == {
        "precision": "bfloat16",
        "batch": "4",
        "encoder": "CLIP ViT-L/14",
        "p50, ms": "2500",  # 1.25 times the median of 2 s
        "p95, ms": "3594",  # 1.25 times 2.5 + 0.75 * 0.5 s
        "images / s": "1.6",
        "time / AIMv2": "1.25 [1.25, 1.25]",
        "FLOPs / AIMv2": "1.000",
        "rate / matrix product's": "160%",  # 4 images of 4 GFLOP in 2.5 s, and 1 GFLOP in 0.25 s
        "peak, MB": "10",
        "weights, MB": "1,200",
    }
    assert "6 calls at batch 1, 6 calls at batch 4" in table.caption


def test_cpu_seconds_are_said_in_the_columns():
    (table, _) = tables(encoders_section(measurements(clock="cpu")))
    assert {"p50, CPU ms", "images / CPU s"} <= set(table.columns)


def test_flops_are_given_once_for_each_resolution():
    (table,) = tables(flops_section(measurements().encoders))
    assert len(table.rows) == 8
    first, second, *_ = rows(table)
    assert (first["closed form"], second["closed form"]) == ("4.000", "")
    assert (first["positions"], second["positions"]) == ("256", "257")


def test_training_has_a_row_for_each_objective_and_times_where_there_are_any():
    section = training_section(measurements())
    timed, untimed = tables(section)
    _, clip = rows(timed)
    assert clip["CPU ms / sample" if "CPU ms / sample" in clip else "ms / sample"] == "250"  # 1 s for 4 samples
    assert clip["time / aimv2"] == "0.50 [0.50, 0.50]"
    assert clip["FLOPs / aimv2"] == "0.500"
    assert "time / aimv2" not in untimed.columns
    assert len({table.name for table in (timed, untimed)}) == 2
