"""What metrics of plug-ins may return, and what fails a run in one sentence."""

import re

import numpy as np
import pytest
import torch

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.spec.items import Items
from aimv2.spec.plugin_metrics import METRICS, PluginMetric, metric


def of(found):
    def measure(model):
        if isinstance(found, Exception):
            raise found
        return found

    return PluginMetric("cka", "share", lower_is_better=False, measure=measure)


@pytest.mark.parametrize("found", [2, 2.0, np.float32(2), np.array(2.0), torch.tensor(2.0)])
def test_numbers_are_values(found):
    value = of(found).value_of(None)
    assert type(value) is float
    assert value == 2


def test_items_are_values():
    items = Items.of([3, 4], [1, 0], [1, 3])
    assert of(items).value_of(None) is items


@pytest.mark.parametrize(
    ("found", "cause", "message"),
    [
        (float("nan"), "not finite", "metric cka is nan after training"),
        (torch.tensor(float("inf")), "not finite", "metric cka is inf after training"),
        (Items.of([1], [float("nan")]), "not finite", "metric cka is nan after training"),
        (Items.of([1], [1], [0]), "not finite", "metric cka has no items"),
        (None, "bug", "metric cka returned None, which is neither a number nor Items"),
        ("0.5", "bug", "metric cka returned '0.5', which is neither"),
        (np.ones(1), "bug", "metric cka returned array([1.]), which is neither"),
        ([[1], [1, 2]], "bug", "metric cka returned [[1], [1, 2]], which is neither"),
        (torch.ones(2), "bug", "metric cka returned tensor([1., 1.]), which is neither"),
        (ZeroDivisionError("no images"), "bug", "metric cka: ZeroDivisionError: no images"),
    ],
)
def test_anything_else_fails_the_run(found, cause, message):
    with pytest.raises(RunFailedError, match=re.escape(message)) as caught:
        of(found).value_of(None)
    assert caught.value.cause == cause


def test_only_functions_are_metrics():
    with pytest.raises(UsageError, match="stands above a function"):
        metric("share", lower_is_better=True)("cka")
    assert "cka" not in METRICS
