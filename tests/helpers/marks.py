"""Marks of slow cases: ``make test`` leaves out exhaustive ones, and ``make test-all`` runs them."""

from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import pytest

exhaustive = partial(pytest.param, marks=pytest.mark.exhaustive)


def everyday(kept: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Return all values of a parameter for ``parametrize``; those that are not in ``kept`` are exhaustive."""
    values = list(values)
    assert all(value in values for value in kept), f"{kept} are not all in {values}"
    return [value if value in kept else exhaustive(value) for value in values]
