"""Samplers draw points of the space, and pruners end what falls behind."""

import math
from dataclasses import replace

import optuna
import pytest

from aimv2.base.errors import UsageError
from aimv2.sweeps.search.config import AUTO
from aimv2.sweeps.search.draw import check_sampler
from aimv2.sweeps.search.folder import SearchFolder
from aimv2.sweeps.search.optimizers import CLASSES, given
from aimv2.sweeps.search.outcome import to_json
from aimv2.sweeps.search.space import EQUAL_SD
from tests.helpers.marks import exhaustive
from tests.helpers.trials import BOX, do, end_trial, search, settle

NUM_TRIALS = 18


@pytest.fixture
def long(tiny):
    """A run of nine steps with a curve of ten points."""
    return replace(tiny, budget=replace(tiny.budget, samples=72), evaluation=replace(tiny.evaluation, curve_points=10))


def row(step, value):
    return {"step": step, "samples": 8 * step, "train_flops": 1, "seconds": 1.0, "held_out_caption_loss": value}


def with_noise(one, noise):
    """Return a search whose trials can differ by so much, in 95 % of cases, at the first point of their curve."""
    return replace(one, curves={"held_out_caption_loss": {8: noise / EQUAL_SD}})


def loss(point):
    """A bowl with its bottom at a weight of 0.7 and a rate of 1e-3."""
    return (point["objective.pixel_weight"] - 0.7) ** 2 + (math.log10(point["optimizer.peak_lr"]) + 3) ** 2


@pytest.mark.parametrize(
    "sampler",
    ["tpe", *map(exhaustive, ("cmaes", "gp", "nsga2"))],
)
def test_each_sampler_that_learns_descends_in_a_box(tiny, tmp_path, sampler):
    """Though each draw is by a sampler that is made anew."""
    one = search(tiny, design=BOX, sampler=sampler, trials=NUM_TRIALS)
    one.check()
    folder = SearchFolder(one, tmp_path)
    for _ in range(NUM_TRIALS):
        task = folder.ask()
        point = folder.trials[task.trial].params
        assert 0 <= point["objective.pixel_weight"] <= 1
        assert 1e-4 <= point["optimizer.peak_lr"] <= 1e-2
        assert do(tmp_path, task, content_loss=loss(point))
        settle(folder)
    assert folder.ask() is None
    assert len({tuple(trial.params.values()) for trial in folder.trials}) == NUM_TRIALS
    losses = [trial.values[0] for trial in folder.trials]
    assert min(losses) < 0.1
    assert sum(losses[NUM_TRIALS // 2 :]) < sum(losses[: NUM_TRIALS // 2]), "later trials are better"


@pytest.mark.parametrize("sampler", CLASSES["sampler"])
def test_each_sampler_of_optuna_draws_every_point_of_a_finite_space_once(tiny, tmp_path, sampler):
    one = search(tiny, sweep="norm_ffn", sampler=sampler, trials=9)
    check_sampler(one)
    folder = SearchFolder(one, tmp_path)
    while (task := folder.ask()) is not None:
        do(tmp_path, task, **dict.fromkeys(one.metrics, float(task.trial)))
        settle(folder)
    assert {trial.run for trial in folder.trials} == set(one.points)
    assert len(folder.trials) == len(one.points) == 4


def test_a_sampler_that_cannot_draw_from_a_space_is_refused(tiny):
    with pytest.raises(UsageError, match=r"^search.sampler=tpe cannot draw"):
        check_sampler(search(tiny, sampler_args={"n_startup_trials": "many"}))
    with pytest.raises(UsageError, match=r"^search.sampler=bruteforce cannot draw objective.pixel_weight, .*: [^\n]*$"):
        check_sampler(search(tiny, design=BOX, sampler="bruteforce"))


@pytest.mark.parametrize(
    "name",
    [AUTO, "none", *map(exhaustive, ("hyperband", "median", "wilcoxon"))],
)
def test_a_trial_that_falls_behind_is_pruned(long, tmp_path, name):
    folder = SearchFolder(search(long, trials=12, pruner=name), tmp_path)

    def is_stopped(task, level):
        return any(folder.report(task, row(step, level + 0.01 * step)) for step in range(1, 10))

    for _ in range(7):
        task = folder.ask()
        assert not is_stopped(task, 1.0)
        end_trial(folder, "finished", task, 1.0)
    assert is_stopped(folder.ask(), 5.0) == (name != "none")
    assert folder.trials[-1].state == ("running" if name == "none" else "pruned")


@pytest.mark.parametrize("metric", ["content_loss", "probe_object"], ids=["minimize", "maximize"])
@pytest.mark.parametrize(
    ("behind", "noise", "is_pruned"),
    [(0.004, 0.1, False), (0.099, 0.1, False), (0.101, 0.1, True), (0.004, None, True)],
)
def test_a_trial_is_pruned_only_if_it_is_worse_than_the_best_by_more_than_the_noise(
    long, tmp_path, behind, noise, is_pruned, metric
):
    """The baseline was pruned at a quarter of its training, on thousandths of a nat."""
    one = search(long, metrics=[metric])
    folder = SearchFolder(one if noise is None else with_noise(one, noise), tmp_path)
    assert not folder.report(folder.ask(), row(1, 2.0))
    assert folder.report(folder.ask(), row(1, 2.0 + behind)) == is_pruned
    note = folder.trials[1].kept
    assert note.startswith(f"not pruned at point 1, where it is {behind:.2g} worse than the best") != is_pruned
    assert to_json(folder, folder.trials)["trials"][1]["note"] == note


@pytest.mark.parametrize("noise", [None, 0.1])
def test_a_value_that_is_no_number_neither_is_the_best_nor_within_the_noise(long, tmp_path, noise):
    folder = SearchFolder(search(long) if noise is None else with_noise(search(long), noise), tmp_path)
    assert [folder.report(folder.ask(), row(1, value)) for value in (math.nan, 2.0, 5.0)] == [True, False, True]


@pytest.mark.parametrize("sampler", ["qmc", "random", "tpe"])
def test_a_sampler_is_checked_without_a_warning(caplog, sampler):
    """A search was planned with the advice to seed its sampler, which is seeded."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.logging.enable_propagation()
    try:
        given({"sampler": sampler, "pruner": AUTO, "sampler_args": {}, "pruner_args": {}})
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
    assert caplog.messages == []
