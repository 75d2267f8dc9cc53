"""Differences told in samples: how many fewer samples harm a metric as much.

The curve of a metric over samples is that of the sensitivity study, whose rungs train on a share of the base's samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

MARGIN_SHARE = 0.1  # of the samples: what they are worth is the equivalence margin of every metric


@dataclass(frozen=True)
class SampleCurve:
    """How much worse a metric is after a share of the samples than after all of them.

    Between the measured shares it is linear in the logarithm of the share.

    Attributes:
        harms: in the metric's unit, by share of the samples; below 0 where it is better. All samples have 0.
    """

    harms: Mapping[float, float] = field(default_factory=dict)

    @property
    def is_monotone(self) -> bool:
        """True if fewer samples are worse at every measured share."""
        _, harm_S = self._points
        return len(harm_S) > 1 and bool((np.diff(harm_S) < 0).all())

    @property
    def margin(self) -> float:
        """What ``MARGIN_SHARE`` of the samples is worth, in the metric's unit; NaN if the curve is not monotone."""
        log_S, harm_S = self._points
        return float(np.interp(np.log2(1 - MARGIN_SHARE), log_S, harm_S)) if self.is_monotone else float("nan")

    def share(self, harm: float) -> float:
        """Return the share of the samples after which the metric is so much worse.

        Returns:
            The first or last measured share for a harm beyond the curve; NaN if the curve is not monotone.
        """
        log_S, harm_S = self._points
        if not self.is_monotone:
            return float("nan")
        return float(2 ** np.interp(-harm, -harm_S, log_S))

    def worth(self, mean: float, low: float, high: float) -> str:
        """Return in words what harms a metric as much as a difference does.

        It is empty if the curve is not monotone, or if the interval reaches beyond both of its ends.

        Args:
            mean, low, high: how much worse one side is, with its interval; below 0 if it is better.
        """
        harm_S = self._points[1]
        if not self.is_monotone or (low < harm_S[-1] and high > harm_S[0]):
            return ""
        middle, least, most = map(self._in_words, (mean, low, high))
        return f"worth {middle} samples" + (f", between {least} and {most}" if least != most else "")

    @property
    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the logarithms of the shares, from few to many samples, and the harms."""
        points = sorted({**self.harms, 1.0: 0.0}.items())
        return np.log2([share for share, _ in points]), np.array([harm for _, harm in points])

    def _in_words(self, harm: float) -> str:
        share, (_, harm_S) = self.share(harm), self._points
        beyond = "more than " if harm > harm_S[0] or harm < harm_S[-1] else ""
        percent = round(100 * abs(1 - share))
        if not percent:
            return "more" if beyond else "as many"  # beyond all samples, where no larger share was measured
        return f"{beyond}{percent} % {'fewer' if share < 1 else 'more'}"
