import pytest

from benchmarks.remote import RemoteOptions, measure


@pytest.mark.exhaustive
def test_what_is_fetched_is_counted(tmp_path):
    options = RemoteOptions(folder=str(tmp_path), shards=16, pairs=320, pair_kb=5, nodes=4, seconds=2.0)
    fetched, waits = measure(options)
    before, one, four = (row["MB"] for row in fetched.rows)
    size, small = (fetched.rows[place]["set, MB"] for place in (0, 1))
    assert size == pytest.approx(16 * 320 * (5000 + 5 * 512) / 1e6, rel=0.2), "with headers and padding"
    captions = (
        16 * 320 * 0.95 * 2100 / 1e6
    )  # but for held-out ones: for the tokenizer, and as training begins once more
    assert 0.9 * captions < before < 2.2 * captions
    assert one == pytest.approx(4 * small, rel=0.15), "pairs that fill no batch are not read"
    assert 0.85 * small <= four <= small * (16 + 3) / 16 + 0.1
    (row,) = waits.rows
    assert row["waits, s"] >= 0
    assert not list(tmp_path.iterdir())
