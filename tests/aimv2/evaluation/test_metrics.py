"""Names, units and directions of metrics."""

import pytest

from aimv2.errors import UsageError
from aimv2.evaluation.metrics import TASKS, lower_is_better, metric_names, unit_of


@pytest.mark.parametrize(
    ("metric", "unit", "is_lower_better"),
    [
        ("caption_loss", "nats/token", True),
        ("causal_caption_loss", "nats/token", True),
        ("caption_bits", "bits/byte", True),
        ("pixel_loss_0.5", "squared error of standardised pixels", True),
        ("raw_pixel_loss_1e-05", "squared error of raw pixels", True),
        ("image_to_text_recall_5", "accuracy", False),
        ("probe_digits", "accuracy", False),
        ("knn_emoji_category", "accuracy", False),
        ("train_cpu_ms_per_sample", "ms/sample", True),
    ],
)
def test_metric_has_one_unit_and_direction(metric, unit, is_lower_better):
    assert unit_of(metric) == unit
    assert lower_is_better(metric) is is_lower_better


@pytest.mark.parametrize("metric", ["my_loss", "probe_", "pixel_loss_half", "pixel_loss", "caption_loss_0.5", ""])
def test_unknown_metric_is_refused(metric):
    for look_up in (unit_of, lower_is_better):
        with pytest.raises(UsageError, match=f"unknown metric '{metric}'"):
            look_up(metric)


def test_every_final_metric_is_defined(tiny):
    names = metric_names(tiny)
    assert len(set(names)) == len(names) == 5 + 2 * 3 + 2 * 2 + 2 * len(TASKS)
    assert all(unit_of(name) for name in names)
    assert "train_cpu_ms_per_sample" not in names
