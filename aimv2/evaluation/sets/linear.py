"""The linear probe: multinomial logistic regression. Letters: N images, D features, C classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

CHUNK = 2**16  # images whose scores are in memory at once
# Largest entry of the gradient, in whitened coordinates, at the end; also relative to l2, because the distance to the
# optimum is about the gradient over the curvature, to which a weak penalty adds little where classes are separable.
MAX_GRADIENT, MAX_GRADIENT_BY_L2 = 1e-6, 1e-2
MEMORY = 10  # of L-BFGS, as in scikit-learn


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
    feature_ND: Tensor, class_N: Tensor, num_classes: int, l2: Sequence[float], max_iterations: int
) -> list[Linear]:
    """Fit a regression for each strength of the penalty; a fit starts from that of the next stronger penalty.

    Minimises mean cross-entropy + l2 / 2 |W|^2, without a penalty of the biases. This is the objective of
    scikit-learn's ``LogisticRegression`` with C = 1 / (l2 N), divided by N C. Both use SciPy's L-BFGS. Here loss and
    gradient are computed in float64 on the device of the features, so that 1.3 million images are feasible, and in
    coordinates in which the features are whitened: mean features are so correlated that thousands of iterations would
    be needed otherwise.

    Args:
        feature_ND: standardised.
        class_N: int64, 0..C-1.
        l2: strengths, in any order, which is that of the result.
        max_iterations: of each fit.
    """
    parameters = torch.zeros(num_classes, feature_ND.shape[1] + 1, dtype=torch.float64, device=feature_ND.device)
    covariance_DD = _covariance(feature_ND)
    fits: dict[float, Linear] = {}
    for strength in sorted(set(l2), reverse=True):
        objective = _Objective(feature_ND, class_N, num_classes, strength, covariance_DD)
        tolerance = min(MAX_GRADIENT, MAX_GRADIENT_BY_L2 * strength)
        found = minimize(
            objective,
            objective.whitened(parameters),
            jac=True,
            method="L-BFGS-B",
            # With a tolerance of the loss too, fits with weak penalties would end before the optimum.
            options={
                "maxiter": max_iterations,
                "maxfun": 10 * max_iterations,
                "maxcor": MEMORY,
                "gtol": tolerance,
                "ftol": 0.0,
            },
        )
        # The line search fails where rounding hides any further descent.
        is_converged = found.success or float(np.abs(found.jac).max()) < 10 * tolerance
        parameters = objective.parameters(found.x)
        fits[strength] = Linear(parameters[:, :-1], parameters[:, -1], is_converged)
    return [fits[strength] for strength in l2]


def _covariance(feature_ND: Tensor) -> Tensor:
    """Return the mean outer product of the features: float64 [D, D]."""
    width = feature_ND.shape[1]
    total_DD = torch.zeros(width, width, dtype=torch.float64, device=feature_ND.device)
    for chunk in feature_ND.split(CHUNK):
        total_DD += chunk.double().T @ chunk.double()
    return total_DD / len(feature_ND)


class _Objective:
    """The loss and its gradient, as functions of flattened parameters in whitened coordinates.

    Parameters are [C, D + 1], weights and biases. With covariance / C + l2 I = R R^T, the weights in whitened
    coordinates are W R, in which the loss near W = 0 has about the same curvature in all directions.
    """

    def __init__(self, feature_ND: Tensor, class_N: Tensor, num_classes: int, l2: float, covariance_DD: Tensor) -> None:
        self._feature_ND, self._class_N, self._l2 = feature_ND, class_N, l2
        self._num_classes = num_classes
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
        for some, own in zip(self._feature_ND.split(CHUNK), self._class_N.split(CHUNK), strict=True):
            feature_BD = some.double()
            log_BC = F.linear(feature_BD, weight_CD, bias_C).log_softmax(dim=1)
            loss -= log_BC.gather(1, own[:, None]).sum()
            error_BC = log_BC.exp()
            error_BC[torch.arange(len(own), device=own.device), own] -= 1
            gradient_CX[:, :-1] += error_BC.T @ feature_BD
            gradient_CX[:, -1] += error_BC.sum(dim=0)
        gradient_CX /= len(self._class_N)
        gradient_CX[:, :-1] += self._l2 * weight_CD
        gradient_CX[:, :-1] = torch.linalg.solve_triangular(
            self._root_DD.T, gradient_CX[:, :-1], upper=True, left=False
        )
        value = loss / len(self._class_N) + self._l2 / 2 * weight_CD.square().sum()
        return float(value), gradient_CX.flatten().cpu().numpy()
