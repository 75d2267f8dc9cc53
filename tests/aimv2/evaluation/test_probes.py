"""Probes of a run, and nearest neighbours against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from aimv2.config.evaluation_config import ProbeConfig
from aimv2.data.transfer import Task, TransferSet
from aimv2.evaluation.features import Encoded, Features, Splits
from aimv2.evaluation.parts import unsaved
from aimv2.evaluation.probes import knn, knn_scores, measure
from aimv2.objectives.build import build


@pytest.mark.parametrize(
    ("learning_rates", "is_at_edge"), [((1e-5, 1e-2), True), ((1e-5, 1e-2, 1e4), False), ((1e-2,), False)]
)
def test_setting_at_the_edge_of_the_grid_has_a_warning(tiny, learning_rates, is_at_edge):
    grid = ProbeConfig(learning_rates=learning_rates, weight_decays=(0.05,), epochs=20, batch_size=16, head_dim=16)
    config = replace(tiny, evaluation=replace(tiny.evaluation, probe=grid))
    label_N1 = np.arange(64)[:, None] % 2
    images = np.zeros((64, 16, 16, 3), dtype=np.uint8)
    images[:, :8] = 255 * label_N1[:, None, None]
    task = Task("ink", 2, label_N1, label_N1, label_N1)
    found = TransferSet(images, images, images, np.arange(64), (task,))
    encoded = Encoded(build(config).encoder, images, config)
    measured = measure(encoded, [found], unsaved)
    assert set(measured) == {"probe_ink", "causal_probe_ink", "knn_ink"}
    assert measured["probe_ink"].items.value == 1
    assert "lr 0.01 " in measured["probe_ink"].how
    assert ("edge of the grid" in measured["probe_ink"].warning) == is_at_edge
    assert "causal attention" in measured["causal_probe_ink"].how


def knn_score(train, test, num_classes, num_neighbours):
    return knn_scores(train, test, num_classes, [num_neighbours])[0]


def on_circle(angles, labels):
    """Return features with one patch per image, on the unit circle."""
    angle_N = torch.tensor(angles)
    return Features(torch.stack([angle_N.cos(), angle_N.sin()], dim=-1)[:, None], torch.tensor(labels)[:, None])


@pytest.mark.parametrize(("num_neighbours", "expected"), [(1, 1.0), (3, 0.0), (1000, 0.0)])
def test_k_nearest_vote_or_all_if_there_are_fewer(num_neighbours, expected):
    # The nearest is of the test's class; two others, nearly as near, outvote it.
    train = on_circle([0.10, 0.12, -0.12], [1, 0, 0])
    assert knn_score(train, on_circle([0.0], [1]), 2, num_neighbours).num_right_N.tolist() == [expected]


def test_neighbours_vote_as_scikit_learns_and_in_half_as_in_float32():
    generator = np.random.default_rng(0)
    half, other_half = (torch.from_numpy(generator.normal(size=(n, 3, 8))).half() for n in (60, 40))
    train, test = half.double(), other_half.double()
    labels = torch.from_numpy(generator.integers(0, 4, (100, 2)))
    found = knn_score(Features(train, labels[:60]), Features(test, labels[60:]), 4, 5)
    known = KNeighborsClassifier(n_neighbors=5, metric="cosine", weights="distance")
    known.fit(train.mean(dim=1).numpy(), labels[:60].numpy())
    right = known.predict(test.mean(dim=1).numpy()) == labels[60:].numpy()
    assert found.num_right_N.tolist() == right.sum(axis=1).tolist()
    assert found.num_labels_N.tolist() == [2] * 40
    in_half = knn_score(Features(half, labels[:60]), Features(other_half, labels[60:]), 4, 5)
    assert in_half.num_right_N.tolist() == found.num_right_N.tolist()


def test_neighbours_without_the_label_do_not_vote():
    train = on_circle([0.1, 0.2, 0.3], [-1, -1, 2])
    score = knn_score(train, on_circle([0.0, 0.0], [2, -1]), 3, 3)
    assert score.num_right_N.tolist() == [1, 0]
    assert score.num_labels_N.tolist() == [1, 0]


def test_number_of_neighbours_is_chosen_on_validation_as_scikit_learn_would():
    """The number with the most right answers; training and validation images then vote on the test together."""
    generator = np.random.default_rng(3)
    centres = generator.normal(size=(4, 8))
    label_N = generator.integers(0, 4, 300)
    feature_ND = centres[label_N] + 1.5 * generator.normal(size=(300, 8))
    cuts, grid = np.split(np.arange(300), [120, 200]), (1, 5, 20)
    parts = [Features(torch.from_numpy(feature_ND[rows, None]), torch.from_numpy(label_N[rows, None])) for rows in cuts]
    found = knn(Splits(4, *parts), grid)

    def theirs(rows, k):
        known = KNeighborsClassifier(k, metric="cosine", weights="distance", algorithm="brute")
        return known.fit(feature_ND[rows], label_N[rows])

    scores = {k: theirs(cuts[0], k).score(feature_ND[cuts[1]], label_N[cuts[1]]) for k in grid}
    best = found.settings["neighbours"]
    assert best == max(scores, key=scores.get) != 1
    assert ("largest of the grid" in found.warning) == (best == 20)
    expected = theirs(np.concatenate(cuts[:2]), best).predict(feature_ND[cuts[2]]) == label_N[cuts[2]]
    assert found.score.num_right_N.tolist() == expected.astype(int).tolist()
