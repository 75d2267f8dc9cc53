"""The linear probe: multinomial logistic regression. Letters: N images, D features, C classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

CHUNK = 2**16  # images whose scores are in memory at once
MAX_GRADIENT = 1e-6  # largest entry of the gradient at the end …
MAX_GRADIENT_BY_L2 = 1e-3  # … and relative to l2, which bounds the distance to the optimum: |W - W*| <= |gradient| / l2
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
        parts = zip(feature_ND.split(CHUNK), class_N.split(CHUNK), strict=True)
        return sum(float(F.cross_entropy(self.scores(some), own, reduction="sum")) for some, own in parts) / len(class_N)


def fit_path(
    feature_ND: Tensor, class_N: Tensor, num_classes: int, l2: Sequence[float], max_iterations: int
) -> list[Linear]:
    """Fit a regression for each strength of the penalty; a fit starts from that of the next stronger penalty.

    Minimises mean cross-entropy + l2 / 2 |W|^2, without a penalty of the biases. This is the objective of
    scikit-learn's ``LogisticRegression`` with C = 1 / (l2 N), divided by N C. Both use SciPy's L-BFGS; here loss and
    gradient are computed in float64 on the device of the features, so that 1.3 million images are feasible.

    Args:
        feature_ND: standardised.
        class_N: int64, 0..C-1.
        l2: strengths, in any order, which is that of the result.
        max_iterations: of each fit.
    """
    width = feature_ND.shape[1]
    start = np.zeros(num_classes * (width + 1))
    fits: dict[float, Linear] = {}
    for strength in sorted(set(l2), reverse=True):
        objective = _Objective(feature_ND, class_N, num_classes, strength)
        options = {"maxiter": max_iterations, "maxfun": 10 * max_iterations, "maxcor": MEMORY}
        tolerance = min(MAX_GRADIENT, MAX_GRADIENT_BY_L2 * strength)
        tolerances = {"gtol": tolerance, "ftol": 0.0}
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options | tolerances)
        # Without a tolerance of the loss, the line search may fail where rounding hides any further descent.
        is_converged = found.success or float(np.abs(found.jac).max()) < 10 * tolerance
        start = found.x
        fits[strength] = Linear(*objective.split(torch.from_numpy(found.x.copy())), is_converged)
    return [fits[strength] for strength in l2]


class _Objective:
    """The loss and its gradient, as functions of the flattened weights and biases."""

    def __init__(self, feature_ND: Tensor, class_N: Tensor, num_classes: int, l2: float) -> None:
        self._feature_ND, self._class_N, self._l2 = feature_ND, class_N, l2
        self._num_classes = num_classes

    def split(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights [C, D] and biases [C]."""
        both_CX = flat.to(self._feature_ND.device).view(self._num_classes, -1)
        return both_CX[:, :-1], both_CX[:, -1]

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight_CD, bias_C = self.split(torch.from_numpy(flat))
        gradient_CX = torch.zeros(self._num_classes, weight_CD.shape[1] + 1, dtype=torch.float64, device=bias_C.device)
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
        value = loss / len(self._class_N) + self._l2 / 2 * weight_CD.square().sum()
        return float(value), gradient_CX.flatten().cpu().numpy()
