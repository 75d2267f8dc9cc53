"""The results of an evaluation: shares with 95 % intervals over test images. Letters: N images, C classes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest, bootstrap

from aimv2.base import address
from aimv2.tools.evaluate.recipes import LIT, PUBLISHED_PX

RESAMPLES = 9999
BATCH = 100  # resamples at once, which bounds the memory
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


def ratio(total_N: np.ndarray, weight_N: np.ndarray) -> Estimate:
    """Return sum(total) / sum(weight) with a bootstrap interval that resamples images, such as hits by captions."""
    value = float(total_N.sum() / weight_N.sum())
    if len(total_N) < 2 or np.ptp(total_N / weight_N) == 0:  # all resamples are equal
        return Estimate(value, value, value)
    interval = bootstrap(
        (total_N, weight_N),
        lambda total, weight, axis: total.sum(axis=axis) / weight.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        method="percentile",
        random_state=address.generator(seed=0, purpose="ratio"),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))


@dataclass(frozen=True, kw_only=True)
class Result:
    """A measured share.

    Attributes:
        name: such as ``probe``, or ``probe_mean_per_class``.
        how: how it was measured.
        settings: chosen on validation.
        warning: what makes it doubtful; empty if nothing does.
        published: accuracies of the paper in percent, by model.
    """

    name: str
    estimate: Estimate
    how: str
    settings: dict[str, float] = field(default_factory=dict)
    warning: str = ""
    published: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        value, low, high = self.estimate
        shown = {"how": self.how, "settings": self.settings, "warning": self.warning}
        return {"value": value, "interval_95": [low, high], **shown, "published_percent": self.published}


def accuracies(method: str, is_right_N: np.ndarray, class_N: np.ndarray, **facts: Any) -> list[Result]:
    """Return the share of test images that are right, and its mean over classes; ``facts`` as of ``Result``."""
    mean, how = mean_per_class(is_right_N, class_N), "mean over classes of their accuracies"
    return [
        Result(name=method, estimate=share(is_right_N), **facts),
        Result(name=f"{method}{MEAN_PER_CLASS}", estimate=mean, how=how),
    ]


def print_results(results: Sequence[Result], title: str, console: Console) -> None:
    """Print a row for each result."""
    has_published = any(result.published for result in results)
    table = Table("measure", "result", "95 % interval", title=title, box=SIMPLE)
    if has_published:
        table.add_column("published")
    table.add_column("chosen on validation")
    for result in results:
        value, low, high = (f"{100 * number:.2f}" for number in result.estimate)
        row = [result.name, f"{value} %", f"{low} to {high}"]
        if has_published:
            row.append(", ".join(f"{name} {accuracy:.1f}" for name, accuracy in result.published.items()))
        table.add_row(*row, ", ".join(f"{name} {chosen:g}" for name, chosen in result.settings.items()))
    console.print(table)
    for how in dict.fromkeys(result.how for result in results if not result.name.endswith(MEAN_PER_CLASS)):
        console.print(how, highlight=False, soft_wrap=True)
    for result in results:
        if result.warning:
            console.print(f"warning: {result.name}: {result.warning}", highlight=False, soft_wrap=True)
    if has_published:
        console.print(
            f"Published: paper Table 3 at {PUBLISHED_PX} px, a probe trained with augmentation, the best of its grid,"
            f" apparently by the test set; {LIT}: Table 5, with prompts that the paper does not list.",
            highlight=False,
            soft_wrap=True,
        )
