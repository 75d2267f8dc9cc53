"""Prefix laws: how many of an image's first patches attend to each other in both directions.

Letters: I patches per image, M prefix length in patches, M in 1..I-1.
"""

from typing import Literal

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from aimv2 import address


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class PrefixLaw:
    """The distribution of M, drawn for every image by itself.

    Attributes:
        law: ``uniform`` on {1..I-1} (the paper's); ``uniform_figure1`` on {0..I-1}, as its pseudo-code draws, where 0
            is the same as 1: the first patch sees only itself either way and is never predicted; ``fixed``,
            M = fraction x I; ``causal``, M = 1, a plain causal mask.
        fraction: of the image's patches, in (0, 1); for ``fixed`` only.

    Source: AIMv2 section 2.2 and ml-l3m ``prefix_range: [1, 255]``, which the default follows against Figure 1.
    """

    law: Literal["uniform", "uniform_figure1", "fixed", "causal"] = "uniform"
    fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.law == "fixed") != (self.fraction is not None):
            raise ValueError(
                f"fraction={self.fraction} with law={self.law!r}: 'fixed' needs a fraction in (0, 1), others take none"
            )
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise ValueError(
                f"fraction={self.fraction} must be above 0 and below 1: a prefix needs one patch and leaves one"
            )

    def pmf(self, num_patches: int) -> np.ndarray:
        """Probability of each prefix length 1..I-1: float64 [I-1], entry m-1 for M = m.

        Raises:
            ValueError: fewer than 2 patches, which would leave none to predict.
        """
        if num_patches < 2:
            raise ValueError(f"num_patches={num_patches} must be at least 2 to leave a patch to predict")
        pmf = np.zeros(num_patches - 1)
        if self.law == "uniform":
            pmf[:] = 1 / (num_patches - 1)
        elif self.law == "uniform_figure1":
            pmf[:] = 1 / num_patches
            pmf[0] = 2 / num_patches
        elif self.law == "causal":
            pmf[0] = 1
        else:
            assert self.fraction is not None, "checked on construction"
            pmf[prefix_len_at(self.fraction, num_patches) - 1] = 1
        return pmf

    def draw(self, *, seed: int, epoch_B: np.ndarray, sample_id_B: np.ndarray, num_patches: int) -> np.ndarray:
        """Prefix lengths of a batch: int64 [B], each in 1..I-1.

        Each image inverts the law's distribution function at one uniform number from its own address, so arms with
        different laws share that number and stay paired.
        """
        cdf = np.cumsum(self.pmf(num_patches))
        uniform_B = address.uniforms(
            seed=seed, purpose="prefix", epoch_B=epoch_B, sample_id_B=sample_id_B, num_draws=1
        )[:, 0]
        # The last entry of the sum may round to just under 1; the minimum keeps M <= I-1 there.
        return np.minimum(np.searchsorted(cdf, uniform_B, side="right") + 1, num_patches - 1)


def prefix_len_at(fraction: float, num_patches: int) -> int:
    """The prefix length nearest to a fraction of the image, kept within 1..I-1."""
    return min(max(round(fraction * num_patches), 1), num_patches - 1)
