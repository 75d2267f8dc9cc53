import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from aimv2.evaluation.probes.splits import Features, Splits
from aimv2.tools.evaluate.linear import fit_path, linear_probe
from aimv2.tools.evaluate.options import LinearOptions
from tests.helpers.marks import exhaustive

NUM_TRAIN = 600


def fitted(*arguments, steps=None, chunk=2**16):
    """Fit a path, and count the steps of its progress."""
    return fit_path(*arguments, (steps if steps is not None else []).append, chunk)


@pytest.fixture(scope="module")
def digits():
    feature_ND, class_N = load_digits(return_X_y=True)
    feature_ND = (feature_ND - feature_ND.mean(axis=0)) / np.sqrt(feature_ND.var(axis=0) + 1e-6)
    return feature_ND, class_N


@pytest.mark.parametrize(
    ("l2", "num_classes"),
    [(1e-4, 10), *(exhaustive(*setting) for setting in [(1e-6, 10), (1e-2, 10), (1.0, 10), (1e-4, 2), (1e-2, 2)])],
)
def test_fit_is_that_of_scikit_learn(l2, num_classes, digits):
    feature_ND, class_N = digits
    train = np.flatnonzero(class_N < num_classes)[:NUM_TRAIN]
    model = LogisticRegression(C=1 / (l2 * len(train)), solver="newton-cg", tol=1e-8, max_iter=10_000)
    model.fit(feature_ND[train], class_N[train])
    (fit,) = fitted(torch.from_numpy(feature_ND[train]), torch.from_numpy(class_N[train]), num_classes, [l2], 100)
    assert fit.is_converged
    test_ND = torch.from_numpy(feature_ND[NUM_TRAIN:])
    expected_NC = model.predict_proba(feature_ND[NUM_TRAIN:])
    if num_classes == 2:
        # scikit-learn fits one vector, whose penalty is twice that of two opposite ones.
        half = LogisticRegression(C=2 / (l2 * len(train)), solver="newton-cg", tol=1e-8, max_iter=10_000)
        expected_NC = half.fit(feature_ND[train], class_N[train]).predict_proba(feature_ND[NUM_TRAIN:])
    np.testing.assert_allclose(fit.scores(test_ND).softmax(dim=1).numpy(), expected_NC, atol=1e-4)
    assert (fit.guesses(test_ND).numpy() == expected_NC.argmax(axis=1)).mean() > 0.999


@pytest.mark.exhaustive
def test_path_gives_each_penalty_its_own_fit_in_the_given_order(digits):
    feature_ND, class_N = (torch.from_numpy(part[:300]) for part in digits)
    together = fitted(feature_ND, class_N, 10, [1e-1, 1e-3, 1e-1], 100, steps=(steps := []))
    assert steps == [1, 1], "two penalties"
    for l2, fit in zip([1e-1, 1e-3], together[:2], strict=True):
        for chunk in (2**16, 64):
            (alone,) = fitted(feature_ND, class_N, 10, [l2], 100, chunk=chunk)
            torch.testing.assert_close(
                fit.scores(feature_ND).softmax(1), alone.scores(feature_ND).softmax(1), atol=1e-6, rtol=0
            )
    assert torch.equal(together[0].weight_CD, together[2].weight_CD)
    expected = torch.nn.functional.cross_entropy(together[0].scores(feature_ND), class_N)
    assert together[0].loss(feature_ND, class_N) == pytest.approx(float(expected))


@pytest.fixture(scope="module")
def splits(digits):
    feature_ND, class_N = (torch.from_numpy(part) for part in digits)
    noise_ND = torch.randn(feature_ND.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [Features((feature_ND + 2 * noise_ND)[rows, None], class_N[rows, None]) for rows in PARTS]
    return Splits(10, *parts)


PARTS = (slice(0, 300), slice(300, 450), slice(450, 900))


def test_linear_probe_is_scikit_learns_with_the_penalty_chosen_on_validation(splits):
    (train, train_y), (validation, validation_y), (test, test_y) = (
        (part.feature_NID[:, 0].numpy(), part.label_NK[:, 0].numpy()) for part in splits[1:]
    )
    mean, std = train.mean(axis=0), np.sqrt(train.var(axis=0) + 1e-6)
    train, validation, test = ((part - mean) / std for part in (train, validation, test))

    def theirs(x, y, l2):
        return LogisticRegression(C=1 / (l2 * len(y)), solver="newton-cg", tol=1e-9, max_iter=10_000).fit(x, y)

    grid = (1e-4, 1e-2, 1e-1, 1.0)
    scores = {l2: theirs(train, train_y, l2).score(validation, validation_y) for l2 in grid}
    found = linear_probe(splits, LinearOptions(l2=grid), (steps := []).append)
    best = found.settings["l2"]
    assert scores[best] == max(scores.values()) > min(scores.values())
    both, both_y = np.concatenate([train, validation]), np.concatenate([train_y, validation_y])
    expected = theirs(both, both_y, best).predict(test) == test_y
    assert found.score.num_right_N.tolist() == expected.tolist()
    assert found.score.num_right_N.mean() > 0.4
    assert steps == [1] * 5, "four penalties, and the last fit"
    shuffled = splits._replace(test=splits.test._replace(label_NK=splits.test.label_NK.roll(1, dims=0)))
    assert linear_probe(shuffled, LinearOptions(l2=grid), steps.append).settings == found.settings


def test_a_fit_that_does_not_converge_is_reported(splits):
    found = linear_probe(splits, LinearOptions(l2=(1e-4,), max_iterations=2), [].append)
    assert "did not converge in 2 iterations" in found.warning
