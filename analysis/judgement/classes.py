"""A difference in a mean over tokens, as the sum of what the classes of words contribute.

The mean over all tokens is the mean over classes, weighted by their shares of the tokens. All runs are evaluated on the
same tokens, so arms have the same shares, and a class contributes its share times its own difference.
Letters: R runs, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from aimv2.ablations.study import Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.contrasts import SharedError
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate, bonferroni, size_of
from aimv2.data.sources.scene import SCENE_CLASSES
from aimv2.spec.metrics import FINAL

EXACT = 1e-6  # relative; the sums of float32 losses of a run agree to about 1e-8
DETERMINED = 1e-4  # smallest singular value, relative to the largest, at which shares are exact to 4 digits
ADDS_UP = 1e-3  # of the difference's error
MOST = 0.5  # of a difference
ALL = 0.995


@dataclass(frozen=True)
class Parts:
    """A difference in a mean over tokens, by class of word.

    Attributes:
        whole: the difference.
        shares: of the tokens, by class; they add up to 1.
        differences: each class's own, by class; their intervals hold together for all classes and arms, and cover
            seeds. Times the shares, they add up to the whole.
        most: the fewest classes that together make up more than half of the whole, the largest first. Empty if the
            interval of the whole includes zero, since shares of noise mean nothing.
        rest: the difference over the tokens of the other classes, with an interval that holds together with those of
            other arms; ``NO_ESTIMATE`` if there are none.
    """

    whole: Estimate
    shares: Mapping[str, float]
    differences: Mapping[str, Estimate]
    most: tuple[str, ...]
    rest: Estimate

    @property
    def contributions(self) -> dict[str, Estimate]:
        """What each class contributes to the whole: its share times its difference."""
        return {
            name: replace(one, mean=self.shares[name] * one.mean, error=self.shares[name] * one.error)
            for name, one in self.differences.items()
        }

    @property
    def seen(self) -> dict[str, Estimate]:
        """The differences of the classes whose intervals exclude zero."""
        return {name: one for name, one in self.differences.items() if one.excludes_zero}

    @property
    def text(self) -> str:
        """The classes that make up most of the whole, such as ``84 % of it place words``, if it is decided."""
        if not self.most:
            return ""
        amount = sum(self.contributions[name].mean for name in self.most) / self.whole.mean
        return f"{f'{100 * amount:.0f} %' if amount < ALL else 'all'} of it {words(self.most)}"

    @property
    def text_with_rest(self) -> str:
        """The text with the difference without these words, positive if it has the direction of the whole."""
        rest = self.rest
        if not self.most or not rest.has_interval:
            return self.text
        low, high = (rest.low, rest.high) if self.whole.mean > 0 else (-rest.high, -rest.low)
        mean = rest.mean if self.whole.mean > 0 else -rest.mean
        return f"{self.text} ({mean:.3f} [{low:.3f}, {high:.3f}] without them)"


def parts(
    study: Study,
    evidence: Evidence,
    metric: str,
    wholes: Mapping[str, Estimate],
    than: str,
    level: float,
    error: Callable[[str], SharedError],
    shares: Mapping[str, float],
) -> dict[str, Parts]:
    """Return the differences of arms of the study from one other in a metric, by class of word.

    Args:
        wholes: the differences, by arm; their intervals hold together with ``level``.
        error: returns what the arms of the study share in a metric.
        shares: each class's share of the metric's tokens (``shares_of``).

    Returns:
        By arm. Arms are left out whose difference has no interval, or where runs are missing so that the classes do not
        add up to it; empty if the metric has no classes, or their shares are not known (``shares_of``).
    """
    told = {arm: one for arm, one in wholes.items() if one.has_interval}
    if not told or not shares:
        return {}
    own_level = bonferroni(len(shares), level)
    own = {name: error(f"{metric}_{name}").contrasts(list(wholes), than, own_level) for name in shares}
    found = {}
    for arm, whole in told.items():
        differences = {name: one[arm] for name, one in own.items()}
        contributions = {name: shares[name] * one.mean for name, one in differences.items()}
        if not abs(sum(contributions.values()) - whole.mean) <= ADDS_UP * whole.error:
            continue
        most = _most(contributions, whole.mean) if whole.excludes_zero else ()
        rest = NO_ESTIMATE
        if 0 < len(most) < len(shares):
            without = _without(evidence, metric, {name: shares[name] for name in most})
            arms = [name for name in study.arms if name in without]
            rest = SharedError(without[arms]).contrasts(list(wholes), than, level)[arm]
        found[arm] = Parts(whole, shares, differences, most, rest)
    return found


def shares_of(evidence: Evidence, metric: str) -> dict[str, float]:
    """Return each class's share of a metric's tokens.

    Records have no numbers of tokens, but the means determine them. Every run gives an equation, mean = sum of
    share x mean of the class, with the same shares. Least squares solves it exactly.

    Returns:
        By class; empty if the metric has no classes, if there are fewer different runs than classes, or if no shares
        solve all equations and add up to 1, as where some words have no class or runs have other tokens.
    """
    if f"{metric}_<class>" not in {definition.name for definition in FINAL}:
        return {}
    names = {f"{metric}_{name}": name for name in SCENE_CLASSES}
    if not evidence.metrics["metric"].isin(list(names)).any():
        return {}
    chosen = evidence.metrics[evidence.metrics["metric"].isin([metric, *names])]
    table = chosen.pivot(index=["arm", "seed"], columns="metric", values="value")
    classes = [name for name in names if name in table]
    if metric not in table or not classes:
        return {}
    table = table[[metric, *classes]].dropna()
    mean_R, mean_RC = table[metric].to_numpy(), table[classes].to_numpy()
    share_C, _, rank, _ = np.linalg.lstsq(mean_RC, mean_R, rcond=DETERMINED)
    is_exact = rank == len(classes) and size_of(mean_RC @ share_C - mean_R) <= EXACT * size_of(mean_R)
    if not is_exact or (share_C <= 0).any() or abs(share_C.sum() - 1) > DETERMINED:
        return {}
    return {names[name]: float(share) for name, share in zip(classes, share_C, strict=True)}


def _without(evidence: Evidence, metric: str, shares: Mapping[str, float]) -> pd.DataFrame:
    """Return the mean over the tokens of all but these classes, with a row per seed and a column per arm."""
    of_classes = sum(share * evidence.values(f"{metric}_{name}") for name, share in shares.items())
    return (evidence.values(metric) - of_classes) / (1 - sum(shares.values()))


def _most(contributions: Mapping[str, float], whole: float) -> tuple[str, ...]:
    """Return the fewest classes whose contributions make up more than half of the whole, the largest first."""
    order = sorted(contributions, key=lambda name: contributions[name] / whole, reverse=True)
    amounts = np.cumsum([contributions[name] / whole for name in order])
    return tuple(order[: int(np.argmax(amounts > MOST)) + 1])


def words(names: tuple[str, ...]) -> str:
    """Return classes in words, such as ``object and ink words``."""
    *first, last = names
    return f"{', '.join(first)} and {last} words" if first else f"{last} words"
