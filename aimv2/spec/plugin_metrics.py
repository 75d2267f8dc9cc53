"""Metrics of plug-ins: a function of a trained model each, with its unit and direction. Nothing here imports torch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsFloat, TypeVar

import numpy as np

from aimv2.base.errors import RunFailedError, UsageError, short
from aimv2.base.plugins import Registry
from aimv2.spec.items import Items

Measure = Callable[[Any], SupportsFloat | Items]  # of a trained model with the data that its run is evaluated on
Function = TypeVar("Function", bound=Measure)


@dataclass(frozen=True)
class PluginMetric:
    """A metric of a plug-in.

    Attributes:
        unit: in reports, such as ``accuracy``.
        measure: returns the value of a trained model: a number, whose uncertainty is that of seeds; or ``Items``, of
            which the value is a ratio of sums, so that its uncertainty is that of items too.
    """

    name: str
    unit: str
    lower_is_better: bool
    measure: Measure

    def value_of(self, model: Any) -> float | Items:
        """Measure a model.

        Raises:
            RunFailedError: the function raises, or returns something else than a finite number or such items.
        """
        try:
            found = self.measure(model)
        except Exception as error:  # of another author's code
            raise RunFailedError("bug", f"metric {self.name}: {type(error).__name__}: {error}") from error
        return checked_value(self.name, found)


def checked_value(metric: str, found: Any) -> float | Items:
    """Return a metric's value, as code of others has measured it.

    Raises:
        RunFailedError: it is neither a finite number nor items whose value is one.
    """
    measured = found if isinstance(found, Items) else _number(metric, found)
    if isinstance(measured, Items) and not len(measured.item_N):
        raise RunFailedError("not finite", f"metric {metric} has no items")
    value = measured.value if isinstance(measured, Items) else measured
    if not math.isfinite(value):
        raise RunFailedError("not finite", f"metric {metric} is {value} after training")
    return measured


def _number(metric: str, found: Any) -> float:
    try:
        if isinstance(found, str | bytes | bool) or np.ndim(found):  # tensors too
            raise TypeError
        return float(found)
    except (TypeError, ValueError) as error:
        what = f"metric {metric} returned {short(found)}, which is neither a number nor Items"
        raise RunFailedError("bug", what) from error


def _check_name(name: str, metric: PluginMetric) -> None:
    from aimv2.spec.metrics import is_ours  # here, since that module reads this one

    if is_ours(name):
        raise UsageError(f"the metric {name!r} exists already, built in")
    if not name.isidentifier():
        raise UsageError(f"a metric is called {name!r}; use letters, digits and underscores")


METRICS: Registry[PluginMetric] = Registry("metric", check=_check_name)


def metric(unit: str, *, lower_is_better: bool) -> Callable[[Function], Function]:
    """Add the function below as a metric; its name is that of the function.

    Raises:
        UsageError: the name is taken.
    """

    def add(measure: Function) -> Function:
        if not callable(measure):
            raise UsageError(f"@metric stands above a function, not {short(measure)}")
        METRICS.add(measure.__name__, PluginMetric(measure.__name__, unit, lower_is_better, measure))
        return measure

    return add
