import numpy as np
import pytest
import torch

from aimv2.base.errors import REASONS, RunFailedError
from aimv2.data.batches.batch import Tally
from aimv2.data.batches.training import TrainBatches
from aimv2.data.reading import Bad, Samples


def test_scored_patches_are_those_after_the_prefixes(tiny, with_samples, pairs):
    batch = TrainBatches(with_samples(tiny, 80), pairs.train, pairs.tokenizer)[2]
    for size in (8, 3):
        rows = []
        for part in batch.split(size):
            found = torch.zeros(len(part.image) * 16, dtype=torch.bool)
            found[part.scored_K] = True
            rows += found.view(-1, 16).tolist()
        assert rows == [[i >= prefix for i in range(16)] for prefix in batch.prefix_len_B.tolist()]


def test_micro_batches_have_the_tokens_and_images_of_the_batch(batch):
    ends = batch.text_len_B.tolist()
    for has_padding in (True, False):
        row = 0
        for part in batch.split(4, has_padding=has_padding):
            assert part.share.first == row
            assert part.token_BT.shape[1] == (batch.token_BT.shape[1] if has_padding else max(ends[row : row + 4]))
            expected = [(i, t) for i, end in enumerate(ends[row : row + len(part.image)]) for t in range(end - 1)]
            assert [divmod(place, part.token_BT.shape[1]) for place in part.supervised_N.tolist()] == expected
            assert torch.equal(part.image, batch.image[row : row + 4])
            assert (part.num_images, part.num_supervised) == (len(batch.image), batch.num_supervised), "of the whole"
            row += len(part.image)
        assert row == len(batch.image)


SOURCES = ["one", "two"]


def samples(part_B, is_dense_B, bad):
    unread = {"pictures": [], "targets": [], "captions": []}
    unread |= dict.fromkeys(("row_B", "epoch_B", "sample_id_B"), np.empty(0))
    counted = {"part_B": np.array(part_B), "is_dense_B": np.array(is_dense_B, dtype=bool)}
    return Samples(**unread, **counted, bad=bad, num_retries=len(part_B) // 2)


def bad(source, reason):
    return Bad(7, source, "key", reason, "")


TALLY = Tally.of_samples(
    samples([0, 1, 1, 1], [1, 0, 0, 1], [bad("two", "empty caption"), bad("two", "empty caption")]),
    SOURCES,
    num_supervised=9,
    num_scored_B=np.array([3, 0, 2, 0]),
)


def test_samples_are_counted_by_source_and_kind_and_the_record_has_epochs_and_reasons():
    assert (TALLY.num_supervised, TALLY.num_scored, TALLY.num_scored_images, TALLY.num_bad) == (9, 5, 2, 2)
    assert TALLY.num_retries == 2
    assert TALLY.shown_SK.tolist() == [[0, 1], [2, 1]]
    assert TALLY.bad_SR[:, REASONS.index("empty caption")].tolist() == [0, 2]
    again = Tally.of(TALLY.counts.tolist(), 2)
    assert again.counts.tolist() == TALLY.counts.tolist()
    assert (TALLY + again).counts.tolist() == (2 * TALLY.counts).tolist()
    assert not (Tally.empty(2)).counts.any()
    assert TALLY.by_source({"one": 10, "two": 6}) == {
        "one": {"samples": 1, "short": 0, "dense": 1, "epochs": 0.1, "bad": {}},
        "two": {"samples": 3, "short": 2, "dense": 1, "epochs": 0.5, "bad": {"empty caption": 2}},
    }


@pytest.mark.parametrize(
    ("num_good", "num_bad", "fails"), [(16, 10, False), (16, 11, True), (5000, 50, False), (5000, 51, True)]
)
def test_a_run_stops_above_the_rate_of_bad_samples(num_good, num_bad, fails):
    """Below a thousand samples, as if there were a thousand: at the start, one bad sample is no rate."""
    read = samples([0] * num_good, [0] * num_good, [bad("one", "missing image")] * num_bad)
    tally = Tally.of_samples(read, SOURCES, 0, np.zeros(1))
    if not fails:
        tally.check(0.01, SOURCES)
        return
    with pytest.raises(RunFailedError, match=rf"{num_bad} bad samples .* \(one: missing image {num_bad}\)") as raised:
        tally.check(0.01, SOURCES)
    assert raised.value.cause == "data"
