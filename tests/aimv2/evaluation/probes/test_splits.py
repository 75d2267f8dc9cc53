import numpy as np
import torch

from aimv2.evaluation.probes.splits import Features, Standardised, moments, scored


def test_features_are_standardised_alike_in_memory_and_from_a_file():
    """The file has other rows too. float16 represents its values exactly."""
    values = np.random.default_rng(0).integers(-8, 8, (300, 2, 3)) + np.array([0, 100, -50])
    row_N = np.flatnonzero(np.arange(300) % 3)
    own = values[row_N]
    expected = (own - own.mean(axis=(0, 1))) / own.std(axis=(0, 1))
    nothing = torch.zeros(len(row_N), 1, dtype=torch.int64)
    in_memory = Features(torch.from_numpy(own).float(), nothing)
    in_file = Features(torch.from_numpy(values).half(), nothing, torch.from_numpy(row_N))
    for part in (in_memory, in_file):
        read = Standardised(part, *moments(part.feature_NID, torch.device("cpu"), part.row_N))
        assert (len(read), *read.shape) == (200, 2, 3)
        chosen = torch.tensor([7, 0, 199])
        np.testing.assert_allclose(read[chosen].numpy(), expected[chosen], atol=1e-4)


def test_features_on_the_host_move_to_the_device_in_batches():
    """The meta device stands in for a GPU: it refuses to compute with tensors of the CPU."""
    part = Features(torch.zeros(20, 4, 6, dtype=torch.float16), torch.zeros(20, 1, dtype=torch.int64))
    statistics = moments(part.feature_NID, torch.device("meta"))
    assert all(value.is_meta and value.dtype == torch.float32 for value in statistics)
    batch_BID = Standardised(part, *statistics)[torch.tensor([3, 1])]
    assert (batch_BID.is_meta, batch_BID.dtype, tuple(batch_BID.shape)) == (True, torch.float32, (2, 4, 6))
    assert part.feature_NID.device.type == "cpu"


def test_standardised_features_leave_those_that_are_saved_as_they_are():
    feature_NID = torch.randn(10, 4, 6, generator=torch.Generator().manual_seed(0))
    part, before = Features(feature_NID, torch.zeros(10, 1, dtype=torch.int64)), feature_NID.clone()
    mean_D, std_D = moments(feature_NID, torch.device("cpu"))
    whole = (before - mean_D) / std_D
    assert torch.equal(Standardised(part, mean_D, std_D)[torch.arange(10)], whole)
    assert torch.equal(feature_NID, before)


def test_score_counts_right_guesses_where_there_are_labels():
    score = scored(torch.tensor([[0, 1], [2, 2], [1, 0]]), torch.tensor([[0, 1], [2, -1], [0, -1]]))
    assert score.num_right_N.tolist() == [2, 1, 0]
    assert score.num_labels_N.tolist() == [2, 1, 1]
