import pytest
import torch

from aimv2.evaluation.knn import knn_accuracy
from aimv2.evaluation.probe import Features


def features(angles, labels):
    """Return features with one patch per image, on the unit circle."""
    angle_N = torch.tensor(angles)
    return Features(torch.stack([angle_N.cos(), angle_N.sin()], dim=-1)[:, None], torch.tensor(labels))


@pytest.mark.parametrize(("num_neighbours", "accuracy"), [(1, 1.0), (3, 0.0), (1000, 0.0)])
def test_k_nearest_vote_or_all_if_there_are_fewer(num_neighbours, accuracy):
    # The nearest is of the test's class; two others, nearly as near, outvote it.
    train = features([0.10, 0.12, -0.12], [1, 0, 0])
    assert knn_accuracy(train, features([0.0], [1]), num_neighbours) == accuracy


def test_neighbours_are_nearest_by_cosine_distance():
    train = Features(torch.eye(3).repeat(5, 1)[:, None], torch.arange(3).repeat(5))
    test = Features(2.5 * torch.eye(3)[:, None] + 0.1, torch.tensor([0, 1, 0]))
    assert knn_accuracy(train, test, 3) == pytest.approx(2 / 3)
