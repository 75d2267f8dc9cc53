import torch

from aimv2.data.batches.training import TrainBatches


def test_scored_patches_are_those_after_the_prefixes(tiny, with_samples, pairs):
    """Of a batch and of its micro-batches."""
    batch = TrainBatches(with_samples(tiny, 80), pairs.train, pairs.tokenizer)[2]
    for size in (8, 3):
        rows = []
        for part in batch.split(size):
            found = torch.zeros(len(part.image) * 16, dtype=torch.bool)
            found[part.scored_K] = True
            rows += found.view(-1, 16).tolist()
        assert rows == [[i >= prefix for i in range(16)] for prefix in batch.prefix_len_B.tolist()]


def test_micro_batches_have_the_tokens_and_images_of_the_batch(batch):
    """Each as wide as its longest caption, or all as wide as the batch."""
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
