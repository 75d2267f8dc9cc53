"""The results of an evaluation: shares with 95 % intervals over test images. Letters: N images, C classes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from aimv2.base import address

RESAMPLES = 9999
MEAN_PER_CLASS = "_mean_per_class"  # end of the name of a result


class Estimate(NamedTuple):
    """A share, and its 95 % interval over test images; a training of another seed may differ more."""

    value: float
    low: float
    high: float


def share(is_right_N: np.ndarray) -> Estimate:
    """Return the share of images that are right, with Wilson's interval."""
    num_right, num = int(is_right_N.sum()), len(is_right_N)
    interval = binomtest(num_right, num).proportion_ci(method="wilson")
    return Estimate(num_right / num, float(interval.low), float(interval.high))


def mean_per_class(is_right_N: np.ndarray, class_N: np.ndarray) -> Estimate:
    """Return the mean over classes of the share that is right, with a bootstrap interval.

    Images are resampled within their class, where the number of right ones is then binomial.
    """
    _, place_N = np.unique(class_N, return_inverse=True)
    num_C = np.bincount(place_N)
    share_C = np.bincount(place_N, is_right_N) / num_C
    drawn = address.generator(seed=0, purpose="mean per class").binomial(num_C, share_C, (RESAMPLES, len(num_C)))
    low, high = np.quantile((drawn / num_C).mean(axis=1), [0.025, 0.975])
    return Estimate(float(share_C.mean()), float(low), float(high))


@dataclass(frozen=True, kw_only=True)
class Result:
    """A measured share.

    Attributes:
        name: such as ``probe``, or ``probe_mean_per_class``.
        how: how it was measured.
        settings: chosen on validation.
        warning: what makes it doubtful; empty if nothing does.
    """

    name: str
    estimate: Estimate
    how: str
    settings: dict[str, float] = field(default_factory=dict)
    warning: str = ""

    def to_json(self) -> dict[str, Any]:
        value, low, high = self.estimate
        return {
            "value": value,
            "interval_95": [low, high],
            "how": self.how,
            "settings": self.settings,
            "warning": self.warning,
        }


def accuracies(method: str, is_right_N: np.ndarray, class_N: np.ndarray, **facts: Any) -> list[Result]:
    """Return the share of test images that are right, and its mean over classes; ``facts`` as of ``Result``."""
    mean, how = mean_per_class(is_right_N, class_N), "mean over classes of their accuracies"
    return [
        Result(name=method, estimate=share(is_right_N), **facts),
        Result(name=f"{method}{MEAN_PER_CLASS}", estimate=mean, how=how),
    ]


def print_results(results: Sequence[Result], title: str, console: Console) -> None:
    """Print a row for each result, and how it was measured."""
    table = Table("measure", "result", "95 % interval", "chosen on validation", title=title, box=SIMPLE)
    for result in results:
        value, low, high = (f"{100 * number:.2f}" for number in result.estimate)
        settings = ", ".join(f"{name} {chosen:g}" for name, chosen in result.settings.items())
        table.add_row(result.name, f"{value} %", f"{low} to {high}", settings)
    console.print(table)
    hows = dict.fromkeys(result.how for result in results if not result.name.endswith(MEAN_PER_CLASS))
    doubts = [f"warning: {result.name}: {result.warning}" for result in results if result.warning]
    for line in (*hows, *doubts):
        console.print(line, highlight=False, soft_wrap=True)
