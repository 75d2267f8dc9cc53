"""Checks of a run that need several of its parts, and the steps that follow from its length."""

from dataclasses import replace

import pytest

from aimv2.config.recipes.scales import demo


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": 3}, "budget.batch_size=16 is not divisible by ranks=3"),
        (
            {"data": replace(demo().data, canonical_nodes=3)},
            "batch_size=16 is not divisible by data.canonical_nodes=3",
        ),
        ({"data": replace(demo().data, render_px=16)}, "data.render_px=16 is smaller than model.image_px=32"),
        ({"attention_kernel": "flex", "compile": False}, "attention_kernel=flex needs compiled blocks"),
        (
            {"evaluation": replace(demo().evaluation, probe=replace(demo().evaluation.probe, head_dim=64))},
            "model.encoder.width=96 is not divisible by evaluation.probe.head_dim=64",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(demo(), **changes)


def with_steps(num_steps, curve_points, picture_points):
    run = demo()
    return replace(
        run,
        budget=replace(run.budget, samples=num_steps * run.budget.batch_size),
        evaluation=replace(run.evaluation, curve_points=curve_points),
        log=replace(run.log, picture_points=picture_points),
    )


@pytest.mark.parametrize(
    ("num_steps", "curve_points", "curve_steps"),
    [(12, 4, (0, 4, 8, 12)), (10, 4, (0, 3, 7, 10)), (2, 4, (0, 1, 2)), (0, 4, (0,))],
)
def test_curve_is_measured_at_equal_distances_from_the_first_step_to_the_last(num_steps, curve_points, curve_steps):
    assert with_steps(num_steps, curve_points, 0).curve_steps == curve_steps


@pytest.mark.parametrize(
    ("picture_points", "picture_steps"),
    [(0, ()), (1, (12,)), (2, (0, 12)), (3, (0, 6, 12)), (9, (0, 3, 6, 9, 12))],
)
def test_pictures_are_drawn_at_some_points_of_the_curve(picture_points, picture_steps):
    assert with_steps(12, 5, picture_points).picture_steps == picture_steps
