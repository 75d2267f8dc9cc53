import numpy as np
import pytest
import torch
from aimv2.tools.evaluate.methods.linear import fit_path
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

NUM_TRAIN = 600


@pytest.fixture(scope="module")
def digits():
    feature_ND, class_N = load_digits(return_X_y=True)
    feature_ND = (feature_ND - feature_ND.mean(axis=0)) / np.sqrt(feature_ND.var(axis=0) + 1e-6)
    return feature_ND, class_N


@pytest.mark.parametrize(("l2", "num_classes"), [(1e-6, 10), (1e-4, 10), (1e-2, 10), (1.0, 10), (1e-4, 2), (1e-2, 2)])
def test_fit_is_that_of_scikit_learn(l2, num_classes, digits):
    feature_ND, class_N = digits
    train = np.flatnonzero(class_N < num_classes)[:NUM_TRAIN]
    model = LogisticRegression(C=1 / (l2 * len(train)), solver="newton-cg", tol=1e-8, max_iter=10_000)
    model.fit(feature_ND[train], class_N[train])
    (fit,) = fit_path(torch.from_numpy(feature_ND[train]), torch.from_numpy(class_N[train]), num_classes, [l2], 100)
    assert fit.is_converged
    test_ND = torch.from_numpy(feature_ND[NUM_TRAIN:])
    expected_NC = model.predict_proba(feature_ND[NUM_TRAIN:])
    if num_classes == 2:
        # scikit-learn fits one vector, whose penalty is twice that of two opposite ones.
        half = LogisticRegression(C=2 / (l2 * len(train)), solver="newton-cg", tol=1e-8, max_iter=10_000)
        expected_NC = half.fit(feature_ND[train], class_N[train]).predict_proba(feature_ND[NUM_TRAIN:])
    np.testing.assert_allclose(fit.scores(test_ND).softmax(dim=1).numpy(), expected_NC, atol=1e-4)
    assert (fit.guesses(test_ND).numpy() == expected_NC.argmax(axis=1)).mean() > 0.999


def test_path_gives_each_penalty_its_own_fit_in_the_given_order(digits):
    feature_ND, class_N = (torch.from_numpy(part[:300]) for part in digits)
    together = fit_path(feature_ND, class_N, 10, [1e-1, 1e-3, 1e-1], 100)
    for l2, fit in zip([1e-1, 1e-3], together[:2], strict=True):
        (alone,) = fit_path(feature_ND, class_N, 10, [l2], 100)
        torch.testing.assert_close(
            fit.scores(feature_ND).softmax(1), alone.scores(feature_ND).softmax(1), atol=1e-6, rtol=0
        )
    assert torch.equal(together[0].weight_CD, together[2].weight_CD)


def test_chunks_change_nothing(digits):
    feature_ND, class_N = (torch.from_numpy(part[:300]) for part in digits)
    (whole,) = fit_path(feature_ND, class_N, 10, [1e-2], 100)
    (parts,) = fit_path(feature_ND, class_N, 10, [1e-2], 100, chunk=64)
    torch.testing.assert_close(parts.weight_CD, whole.weight_CD, atol=1e-6, rtol=0)


def test_loss_is_the_mean_cross_entropy(digits):
    feature_ND, class_N = (torch.from_numpy(part[:300]) for part in digits)
    (fit,) = fit_path(feature_ND, class_N, 10, [1e-2], 100)
    expected = torch.nn.functional.cross_entropy(feature_ND @ fit.weight_CD.T + fit.bias_C, class_N)
    assert fit.loss(feature_ND, class_N) == pytest.approx(float(expected))


def test_an_optimum_that_is_not_reached_is_reported(digits):
    feature_ND, class_N = (torch.from_numpy(part[:300]) for part in digits)
    (fit,) = fit_path(feature_ND, class_N, 10, [1e-4], 3)
    assert not fit.is_converged
