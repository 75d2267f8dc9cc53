"""Both ways that the benchmark of loading times give the same tables."""

import pandas as pd
from benchmarks.load import build, cells_of, with_load, with_pandas


def test_both_ways_give_the_same_means(tmp_path):
    cells = cells_of(14)
    build(cells, tmp_path, num_rows=40)
    for table, expected in zip(with_load(cells, tmp_path), with_pandas(cells, tmp_path), strict=True):
        assert len(table)
        pd.testing.assert_frame_equal(table.sort_index(), expected.sort_index())
