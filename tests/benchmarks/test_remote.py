import pytest

from benchmarks.remote import RemoteOptions, measure


@pytest.mark.exhaustive
def test_what_is_fetched_is_counted(tmp_path):
    options = RemoteOptions(folder=str(tmp_path), shards=16, pairs=325, pair_kb=5, nodes=4, seconds=2.0)
    fetched, waits = measure(options)
    before, one, four = (row["MB"] for row in fetched.rows)
    size, small = (fetched.rows[place]["set, MB"] for place in (0, 1))
    assert size == pytest.approx(16 * 325 * (5000 + 5 * 512) / 1e6, rel=0.2), "with headers and padding"
    captions = 3000 * 2100 / 1e6  # of the tokenizer
    others = 4096 * 2100 + 256 * (5000 + 2 * 2100)  # of the mean length, and the held-out pairs of a curve
    assert captions < before < captions + others / 1e6
    assert one == pytest.approx(4 * small, rel=0.15), "pairs that fill no batch are not read"
    assert 0.85 * small <= four <= small * (16 + 3) / 16 + 0.1
    (row,) = waits.rows
    assert row["waits, s"] >= 0
    assert not list(tmp_path.iterdir())
