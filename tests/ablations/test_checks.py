"""Cells that cannot run, metrics that are not measured, and overrides that would be lost."""

from dataclasses import replace

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import check_arms, check_effect, check_metrics, expand
from aimv2.base.errors import UsageError
from aimv2.config.paths import replaced

STUDY = STUDIES["loss_weight"]  # each of its arms has its own objective.pixel_weight


def cells_of(base):
    return expand(STUDY, base, seeds=[0])


def effect(base, **values):
    """Check these overrides of a base run."""
    changed = {key.replace("__", "."): value for key, value in values.items()}
    typed = {key: f"{key}={value}" for key, value in changed.items()}
    check_effect(typed, replaced(base, changed), base, lambda run: run, cells_of)


def test_an_override_that_every_arm_replaces_is_refused(tiny):
    with pytest.raises(UsageError, match=r"^objective.pixel_weight=0.1 has no effect: every arm of the sweep sets its"):
        effect(tiny, budget__samples=32, objective__pixel_weight=0.1)
    effect(tiny, budget__samples=32)  # reaches the arms
    effect(tiny, objective__pixel_weight=tiny.objective.pixel_weight)  # repeats a default, which is no mistake


def test_an_arm_that_its_objective_cannot_train_is_named(tiny):
    check_arms(cells_of(tiny))
    cell = cells_of(tiny)[0]
    caption = replaced(cell.config, {"objective.name": "caption"})
    with pytest.raises(UsageError, match=f"^arm '{cell.arm}' cannot exist: objective.name=caption has no pixel_weight"):
        check_arms([replace(cell, config=caption)])


@pytest.mark.parametrize(
    ("metric", "objective", "message"),
    [
        ("recal", "aimv2", "unknown sweep.primary_metric 'recal'"),
        ("content_loss", "image_only", "compares content_loss, which is not applicable to objective image_only"),
    ],
)
def test_a_study_of_a_metric_that_its_base_run_does_not_report_is_refused(tiny, metric, objective, message):
    study = replace(STUDY, primary_metric=metric)
    with pytest.raises(UsageError, match=message):
        check_metrics(study, replaced(tiny, {"objective.name": objective}))
