"""The linear probe: multinomial logistic regression. Letters: N images, D features, C classes."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from aimv2.evaluation.probes.splits import FEATURE_EPS, Chosen, Splits, at_edge, scored
from aimv2.tools.evaluate.options import LinearOptions

CHUNK = 2**16  # images whose scores are in memory at once
MAX_GRADIENT = 1e-8  # norm of the gradient, in whitened coordinates, at the end


def linear_probe(splits: Splits, options: LinearOptions, advance: Callable[[int], None]) -> Chosen:
    """Measure logistic regression on standardised mean features.

    The penalty is chosen on validation; the regression is then fitted again on training and validation images together.

    Args:
        splits: with one label for each image, and features of one patch, the mean.
        advance: called with 1 after each fit: one for each strength of the penalty, and the last.
    """
    train_ND, validation_ND, test_ND = (part.feature_NID[:, 0] for part in splits[1:])
    mean_D, std_D = train_ND.mean(dim=0), (train_ND.var(dim=0, correction=0) + FEATURE_EPS).sqrt()
    train_ND, validation_ND, test_ND = ((part - mean_D) / std_D for part in (train_ND, validation_ND, test_ND))
    train_N, validation_N = splits.train.label_NK[:, 0], splits.validation.label_NK[:, 0]

    def fitted(feature_ND: Tensor, class_N: Tensor, l2: Sequence[float]) -> list[Linear]:
        return fit_path(feature_ND, class_N, splits.num_classes, l2, options.max_iterations, advance)

    def quality(fit: Linear) -> tuple[float, float]:
        num_right = float((fit.guesses(validation_ND) == validation_N).sum())
        return num_right, -fit.loss(validation_ND, validation_N)

    fits = fitted(train_ND, train_N, options.l2)
    best = options.l2[max(range(len(fits)), key=lambda place: quality(fits[place]))]
    (last,) = fitted(torch.cat([train_ND, validation_ND]), torch.cat([train_N, validation_N]), [best])
    doubts = [at_edge("l2", best, options.l2)]
    if not all(fit.is_converged for fit in (*fits, last)):
        doubts.append(f"a fit did not converge in {options.max_iterations} iterations; raise linear.max_iterations")
    score = scored(last.guesses(test_ND)[:, None], splits.test.label_NK)
    return Chosen(score, {"l2": best}, "; ".join(filter(None, doubts)))


class Linear(NamedTuple):
    """Weights [C, D], biases [C] and whether the optimizer ended at the optimum."""

    weight_CD: Tensor
    bias_C: Tensor
    is_converged: bool

    def scores(self, feature_ND: Tensor) -> Tensor:
        """Return the class scores: float64 [N, C]."""
        return F.linear(feature_ND.double(), self.weight_CD, self.bias_C)

    def guesses(self, feature_ND: Tensor) -> Tensor:
        """Return the class with the highest score: int64 [N]."""
        return torch.cat([self.scores(chunk).argmax(dim=1) for chunk in feature_ND.split(CHUNK)])

    def loss(self, feature_ND: Tensor, class_N: Tensor) -> float:
        """Return the mean cross-entropy, in nats."""
        total = 0.0
        for some, own in zip(feature_ND.split(CHUNK), class_N.split(CHUNK), strict=True):
            total += float(F.cross_entropy(self.scores(some), own, reduction="sum"))
        return total / len(class_N)


def fit_path(
    feature_ND: Tensor,
    class_N: Tensor,
    num_classes: int,
    l2: Sequence[float],
    max_iterations: int,
    advance: Callable[[int], None],
    chunk: int = CHUNK,
) -> list[Linear]:
    """Fit a regression for each strength of the penalty; a fit starts from that of the next stronger penalty.

    Minimises mean cross-entropy + l2 / 2 |W|^2, without a penalty of the biases. This is the objective of
    scikit-learn's ``LogisticRegression`` with C = 1 / (l2 N), divided by N C. It is minimised by SciPy's Newton method
    with conjugate gradients. Everything is computed in float64 on the device of the features, so that 1.3 million
    images are feasible, and in coordinates in which the features are whitened: mean features are so correlated that
    L-BFGS, and conjugate gradients without it, need thousands of iterations.

    Args:
        feature_ND: standardised.
        class_N: int64, 0..C-1.
        l2: strengths, in any order, which is that of the result.
        max_iterations: Newton steps of each fit.
        advance: called with 1 after each fit.
        chunk: images whose scores are in memory at once.
    """
    parameters = torch.zeros(num_classes, feature_ND.shape[1] + 1, dtype=torch.float64, device=feature_ND.device)
    covariance_DD = _covariance(feature_ND, chunk)
    fits: dict[float, Linear] = {}
    for strength in sorted(set(l2), reverse=True):
        objective = _Objective(feature_ND, class_N, num_classes, strength, covariance_DD, chunk)
        found = minimize(
            objective,
            objective.whitened(parameters),
            jac=True,
            hessp=objective.curvature,
            method="trust-ncg",
            options={"maxiter": max_iterations, "gtol": MAX_GRADIENT},
        )
        # Where rounding hides any further descent, it ends without success.
        is_converged = found.success or float(np.linalg.norm(found.jac)) < 10 * MAX_GRADIENT
        parameters = objective.parameters(found.x)
        fits[strength] = Linear(parameters[:, :-1], parameters[:, -1], is_converged)
        advance(1)
    return [fits[strength] for strength in l2]


def _covariance(feature_ND: Tensor, chunk: int) -> Tensor:
    """Return the mean outer product of the features: float64 [D, D]."""
    width = feature_ND.shape[1]
    total_DD = torch.zeros(width, width, dtype=torch.float64, device=feature_ND.device)
    for feature_BD in feature_ND.split(chunk):
        total_DD += feature_BD.double().T @ feature_BD.double()
    return total_DD / len(feature_ND)


class _Objective:
    """The loss and its gradient, as functions of flattened parameters in whitened coordinates.

    Parameters are [C, D + 1], weights and biases. With covariance / C + l2 I = R R^T, the weights in whitened
    coordinates are W R, in which the loss near W = 0 has about the same curvature in all directions.
    """

    def __init__(
        self, feature_ND: Tensor, class_N: Tensor, num_classes: int, l2: float, covariance_DD: Tensor, chunk: int
    ) -> None:
        self._feature_ND, self._class_N, self._l2 = feature_ND, class_N, l2
        self._num_classes, self._chunk = num_classes, chunk
        ridge_DD = l2 * torch.eye(len(covariance_DD), dtype=torch.float64, device=covariance_DD.device)
        self._root_DD = torch.linalg.cholesky(covariance_DD / num_classes + ridge_DD)

    def whitened(self, parameter_CX: Tensor) -> np.ndarray:
        """Return flattened parameters in whitened coordinates."""
        both_CX = torch.cat([parameter_CX[:, :-1] @ self._root_DD, parameter_CX[:, -1:]], dim=1)
        return both_CX.flatten().cpu().numpy()

    def parameters(self, flat: np.ndarray) -> Tensor:
        """Return the parameters [C, D + 1] of whitened coordinates."""
        both_CX = torch.from_numpy(flat).to(self._root_DD.device).view(self._num_classes, -1)
        weight_CD = torch.linalg.solve_triangular(self._root_DD, both_CX[:, :-1], upper=False, left=False)
        return torch.cat([weight_CD, both_CX[:, -1:]], dim=1)

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        parameter_CX = self.parameters(flat)
        weight_CD, bias_C = parameter_CX[:, :-1], parameter_CX[:, -1]
        gradient_CX = torch.zeros_like(parameter_CX)
        loss = torch.zeros((), dtype=torch.float64, device=bias_C.device)
        for feature_BD, own_B in self._chunks():
            log_BC = F.linear(feature_BD, weight_CD, bias_C).log_softmax(dim=1)
            loss -= log_BC.gather(1, own_B[:, None]).sum()
            error_BC = log_BC.exp()
            error_BC[torch.arange(len(own_B), device=own_B.device), own_B] -= 1
            _add(gradient_CX, error_BC, feature_BD)
        value = loss / len(self._class_N) + self._l2 / 2 * weight_CD.square().sum()
        return float(value), self._finished(gradient_CX, weight_CD)

    def curvature(self, flat: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Return the product of the Hessian and a direction."""
        parameter_CX, direction_CX = self.parameters(flat), self.parameters(direction)
        product_CX = torch.zeros_like(parameter_CX)
        for feature_BD, _ in self._chunks():
            share_BC = F.linear(feature_BD, parameter_CX[:, :-1], parameter_CX[:, -1]).softmax(dim=1)
            change_BC = F.linear(feature_BD, direction_CX[:, :-1], direction_CX[:, -1])
            mean_B1 = (share_BC * change_BC).sum(dim=1, keepdim=True)
            _add(product_CX, share_BC * (change_BC - mean_B1), feature_BD)
        return self._finished(product_CX, direction_CX[:, :-1])

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        for feature_BD, own_B in zip(
            self._feature_ND.split(self._chunk), self._class_N.split(self._chunk), strict=True
        ):
            yield feature_BD.double(), own_B

    def _finished(self, sum_CX: Tensor, weight_CD: Tensor) -> np.ndarray:
        """Return a sum over images as a mean with that of the penalty, flattened, in whitened coordinates."""
        both_CX = sum_CX / len(self._class_N)
        both_CX[:, :-1] += self._l2 * weight_CD
        both_CX[:, :-1] = torch.linalg.solve_triangular(self._root_DD.T, both_CX[:, :-1], upper=True, left=False)
        return both_CX.flatten().cpu().numpy()


def _add(sum_CX: Tensor, error_BC: Tensor, feature_BD: Tensor) -> None:
    """Add the derivatives by weights and biases, from those by the scores."""
    sum_CX[:, :-1] += error_BC.T @ feature_BD
    sum_CX[:, -1] += error_BC.sum(dim=0)
