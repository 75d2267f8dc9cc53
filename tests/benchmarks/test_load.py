"""The runs that the benchmark of tables loads."""

from analysis.evidence.load import load
from benchmarks.load import CURVE_POINTS, LOSS, build, cells_of, rows


def test_made_up_runs_are_loaded_with_rows_of_their_own(tmp_path):
    cells = cells_of(14)
    build(cells, tmp_path, num_rows=40)
    table = load(cells, tmp_path).rows.collect().to_pandas()
    number = next(number for number, cell in enumerate(cells) if (cell.arm, cell.seed) == ("causal", 0))
    own = table[(table["arm"] == "causal") & (table["seed"] == 0)].sort_values("step")
    assert own[LOSS].tolist() == rows(number, 40)[LOSS].tolist()
    assert own["held_out_caption_loss"].notna().sum() == CURVE_POINTS
