import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from aimv2.evaluation.probes.neighbours import knn_score
from aimv2.evaluation.probes.splits import Features


def accuracy(score):
    return score.num_right_N.sum() / score.num_labels_N.sum()


def on_circle(angles, labels):
    """Return features with one patch per image, on the unit circle."""
    angle_N = torch.tensor(angles)
    return Features(torch.stack([angle_N.cos(), angle_N.sin()], dim=-1)[:, None], torch.tensor(labels)[:, None])


@pytest.mark.parametrize(("num_neighbours", "expected"), [(1, 1.0), (3, 0.0), (1000, 0.0)])
def test_k_nearest_vote_or_all_if_there_are_fewer(num_neighbours, expected):
    # The nearest is of the test's class; two others, nearly as near, outvote it.
    train = on_circle([0.10, 0.12, -0.12], [1, 0, 0])
    assert accuracy(knn_score(train, on_circle([0.0], [1]), 2, num_neighbours)) == expected


def test_neighbours_are_nearest_by_cosine_distance():
    train = Features(torch.eye(3).repeat(5, 1)[:, None], torch.arange(3).repeat(5)[:, None])
    test = Features(2.5 * torch.eye(3)[:, None] + 0.1, torch.tensor([[0], [1], [0]]))
    assert accuracy(knn_score(train, test, 3, 3)) == pytest.approx(2 / 3)


def test_neighbours_vote_as_scikit_learns():
    generator = np.random.default_rng(0)
    train, test = (torch.from_numpy(generator.normal(size=(n, 3, 8))) for n in (60, 40))
    labels = torch.from_numpy(generator.integers(0, 4, (100, 2)))
    found = knn_score(Features(train, labels[:60]), Features(test, labels[60:]), 4, 5)
    known = KNeighborsClassifier(n_neighbors=5, metric="cosine", weights="distance")
    known.fit(train.mean(dim=1).numpy(), labels[:60].numpy())
    right = known.predict(test.mean(dim=1).numpy()) == labels[60:].numpy()
    assert found.num_right_N.tolist() == right.sum(axis=1).tolist()
    assert found.num_labels_N.tolist() == [2] * 40


def test_neighbours_without_the_label_do_not_vote():
    train = on_circle([0.1, 0.2, 0.3], [-1, -1, 2])
    score = knn_score(train, on_circle([0.0, 0.0], [2, -1]), 3, 3)
    assert score.num_right_N.tolist() == [1, 0]
    assert score.num_labels_N.tolist() == [1, 0]
