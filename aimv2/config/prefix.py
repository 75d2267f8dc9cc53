"""The prefix-length distribution: how many of an image's first patches attend to each other bidirectionally.

Letters: I patches per image, M prefix length in patches, M in 1..I. M = I is full attention, which leaves no patch to
predict.
"""

from typing import Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base import address
from aimv2.config.data_config import CHECKED

PARAMETERS = {
    "uniform": (),
    "uniform_figure1": (),
    "fixed": ("fraction",),
    "beta": ("alpha", "beta"),
    "truncated": ("low", "high"),
    "causal": (),
}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PrefixDistribution:
    """The prefix-length distribution, that of M.

    Attributes:
        law: ``uniform`` on {1..I-1} (the paper's); ``uniform_figure1`` on {0..I-1}, as in the pseudo-code of Figure 1,
            where 0 is equivalent to 1, because the first patch sees only itself and is never predicted; ``fixed``,
            M = fraction x I; ``beta``, a Beta distribution cut into I-1 equal bins, skewed to short prefixes if
            alpha < beta and to long ones if alpha > beta; ``truncated``, uniform from low x I to high x I; ``causal``,
            M = 1, a plain causal mask.
        fraction: share of the image's patches, in (0, 1); for ``fixed`` only.
        alpha, beta: above 0; for ``beta`` only.
        low, high: shares of the image's patches, 0 <= low <= high <= 1; for ``truncated`` only.
        full_attention: probability of M = I instead, an image with full attention and no pixel loss.
        per: ``image``, M is drawn for each image (the paper's); ``batch``, once for all images of a step.

    Source: AIMv2 section 2.2 and ml-l3m ``prefix_range: [1, 255]``, which the default follows; Figure 1 differs. The
    paper does not ablate any of this.
    """

    law: Literal["uniform", "uniform_figure1", "fixed", "beta", "truncated", "causal"] = "uniform"
    fraction: float | None = Field(default=None, gt=0, lt=1)
    alpha: float | None = Field(default=None, gt=0)
    beta: float | None = Field(default=None, gt=0)
    low: float | None = Field(default=None, ge=0, le=1)
    high: float | None = Field(default=None, ge=0, le=1)
    full_attention: float = Field(default=0.0, ge=0, lt=1)
    per: Literal["image", "batch"] = "image"

    def __post_init__(self) -> None:
        needed = PARAMETERS[self.law]
        if missing := [f"prefix.{name}" for name in needed if getattr(self, name) is None]:
            raise ValueError(f"prefix.law={self.law} needs {' and '.join(missing)}")
        for law, names in PARAMETERS.items():
            for name in names:
                if name not in needed and getattr(self, name) is not None:
                    raise ValueError(f"prefix.law={self.law} has no {name}; prefix.{name} belongs to prefix.law={law}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low={self.low} must not exceed high={self.high}")

    def pmf(self, num_patches: int) -> np.ndarray:
        """Return the probability of each prefix length 1..I: float64 [I], entry m-1 for M = m.

        Raises:
            ValueError: fewer than 2 patches, which leaves none to predict.
        """
        if num_patches < 2:
            raise ValueError(f"num_patches={num_patches} must be at least 2 to leave a patch to predict")
        pmf = np.zeros(num_patches)
        below_full = pmf[:-1]
        if self.law == "uniform":
            below_full[:] = 1 / (num_patches - 1)
        elif self.law == "uniform_figure1":
            below_full[:] = 1 / num_patches
            below_full[0] = 2 / num_patches
        elif self.law == "causal":
            below_full[0] = 1
        elif self.fraction is not None:
            below_full[prefix_len_at(self.fraction, num_patches) - 1] = 1
        elif self.alpha is not None and self.beta is not None:
            from scipy.special import betainc  # here, so that studies load fast

            below_full[:] = np.diff(betainc(self.alpha, self.beta, np.linspace(0, 1, num_patches)))
        elif self.low is not None and self.high is not None:
            first, last = (prefix_len_at(fraction, num_patches) for fraction in (self.low, self.high))
            below_full[first - 1 : last] = 1 / (last - first + 1)
        if self.full_attention:
            below_full *= 1 - self.full_attention
            pmf[-1] = self.full_attention
        return pmf

    def draw(
        self, *, seed: int, epoch_B: np.ndarray, sample_id_B: np.ndarray, step: int, num_patches: int | np.ndarray
    ) -> np.ndarray:
        """Draw the prefix lengths of a batch: int64 [B], each in 1..I.

        The cumulative distribution is inverted at one uniform number, from the address of each sample or of the step.
        Arms with different distributions share these numbers, so they stay paired.

        Args:
            step: number of the batch, used only if ``per`` is ``batch``.
            num_patches: I, of all images or of each: int64 [B].
        """
        if self.per == "batch":
            uniform = address.generator(seed=seed, purpose="prefix of a batch", sample_id=step).random()
            uniform_B = np.full(len(sample_id_B), uniform)
        else:
            uniform_B = address.uniforms(
                seed=seed, purpose="prefix", epoch_B=epoch_B, sample_id_B=sample_id_B, num_draws=1
            )[:, 0]
        if isinstance(num_patches, int):
            return self._at(uniform_B, num_patches)
        length_B = np.empty(len(uniform_B), dtype=np.int64)
        for own_patches in np.unique(num_patches).tolist():
            is_own_B = num_patches == own_patches
            length_B[is_own_B] = self._at(uniform_B[is_own_B], own_patches)
        return length_B

    def _at(self, uniform_B: np.ndarray, num_patches: int) -> np.ndarray:
        """Invert the cumulative distribution."""
        pmf = self.pmf(num_patches)
        longest = np.flatnonzero(pmf)[-1] + 1
        # The last cumulative sum may round to just below 1; the minimum keeps M possible there.
        length_B: np.ndarray = np.minimum(np.searchsorted(np.cumsum(pmf), uniform_B, side="right") + 1, longest)
        return length_B


def prefix_len_at(fraction: float, num_patches: int) -> int:
    """Return the prefix length closest to a share of the image, within 1..I-1."""
    return min(max(round(fraction * num_patches), 1), num_patches - 1)
