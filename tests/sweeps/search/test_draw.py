"""Points that are drawn, one by one."""

import optuna
import pytest

from aimv2.ablations.design import factorial, latin_hypercube, setting
from aimv2.base.errors import UsageError
from aimv2.sweeps.search.draw import draw
from tests.helpers.trials import search

SWITCH = factorial({"on": setting("on", {}), "off": setting("off", {"objective.pixel_weight": 0.0})}, names=("pixels",))


def drawn(one, used, number=7):
    study = optuna.create_study(directions=one.directions)
    for _ in range(number):
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    return draw(one, study, used)


def test_the_first_point_is_the_baseline_and_it_is_drawn_again_only_if_it_has_failed(tiny):
    one = search(tiny)
    assert drawn(one, [], number=0) == (one.baseline, one.run(one.baseline))
    assert drawn(one, [one.run(one.baseline).name], number=1)[0] != one.baseline
    assert drawn(one, ["another"], number=5)[0] == one.baseline


def test_the_only_point_that_is_left_is_drawn(tiny):
    one = search(tiny, design=SWITCH)
    on, off = one.points
    assert drawn(one, [on])[1].name == off
    assert drawn(one, [off])[1].name == on


def test_a_draw_depends_on_the_number_and_on_nothing_else(tiny):
    one = search(tiny, sampler="random")
    used = [one.run(one.baseline).name, "another"]
    assert drawn(one, used, 3) == drawn(one, used, 3)
    assert drawn(one, used, 3) != drawn(one, used, 4)


def test_a_space_of_points_that_cannot_exist_is_one_sentence(tiny):
    box = latin_hypercube(
        {"base": setting("base", {})}, linear={"model.encoder.width": (32.5, 33.5)}, log={}, num_points=1
    )
    with pytest.raises(UsageError, match="200 points in a row are impossible or were tried, the last one"):
        drawn(search(tiny, design=box), ["another"])
