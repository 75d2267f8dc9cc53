"""Whether the value of a field is what a description asks for."""

import math
from typing import Any

from aimv2.datasets.description import Filter


def meets(value: Any, condition: Filter) -> bool:
    """True if the value of a field meets a condition. Text that is a number is compared as a number."""
    if value is None or (condition.any_of is not None and not is_one_of(value, condition.any_of)):
        return False
    if condition.min is None and condition.max is None:
        return True
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    lowest = -math.inf if condition.min is None else condition.min
    highest = math.inf if condition.max is None else condition.max
    return lowest <= number <= highest


def is_one_of(value: Any, allowed: tuple[str | int | float | bool, ...]) -> bool:
    """True if a value is among those of a description; text, as in CSV files, may be that of a number."""
    return any(_is(value, option) for option in allowed)


def _is(value: Any, option: str | int | float | bool) -> bool:
    if isinstance(value, str) and not isinstance(option, str):
        return value == (str(option).lower() if isinstance(option, bool) else str(option))
    return isinstance(value, bool) == isinstance(option, bool) and bool(value == option)
