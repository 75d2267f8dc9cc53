"""Samplers draw points of the space, and pruners end what falls behind."""

import math
from dataclasses import replace

import optuna
import pytest

from aimv2.base.errors import UsageError
from sweeps.search.config import AUTO
from sweeps.search.draw import check_sampler
from sweeps.search.folder import SearchFolder
from sweeps.search.optimizers import KEPT, SAMPLERS, pruner_of
from tests.helpers.marks import exhaustive
from tests.helpers.trials import BOX, do, end_trial, search

NUM_TRIALS = 18


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
        folder.settle()
    assert folder.ask() is None
    assert len({tuple(trial.params.values()) for trial in folder.trials}) == NUM_TRIALS
    losses = [trial.values[0] for trial in folder.trials]
    assert min(losses) < 0.1
    assert sum(losses[NUM_TRIALS // 2 :]) < sum(losses[: NUM_TRIALS // 2]), "later trials are better"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_of_optuna_draws_every_point_of_a_finite_space_once(tiny, tmp_path, sampler):
    one = search(tiny, sweep="norm_ffn", sampler=sampler, trials=9)
    check_sampler(one)
    folder = SearchFolder(one, tmp_path)
    while (task := folder.ask()) is not None:
        do(tmp_path, task, **dict.fromkeys(one.metrics, float(task.trial)))
        folder.settle()
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
def test_a_trial_that_falls_behind_is_pruned(tiny, tmp_path, name):
    long = replace(tiny, budget=replace(tiny.budget, samples=72), evaluation=replace(tiny.evaluation, curve_points=10))
    folder = SearchFolder(search(long, trials=12, pruner=name), tmp_path)
    costs = {"samples": 8, "train_flops": 1, "seconds": 1.0}

    def is_stopped(task, level):
        rows = [{"step": step, "held_out_caption_loss": level + 0.01 * step} | costs for step in range(1, 10)]
        return any(folder.report(task, row) for row in rows)

    for _ in range(7):
        task = folder.ask()
        assert not is_stopped(task, 1.0)
        end_trial(folder, "finished", task, 1.0)
    assert is_stopped(folder.ask(), 5.0) == (name != "none")
    assert folder.trials[-1].state == ("running" if name == "none" else "pruned")


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["minimize", "maximize"])
@pytest.mark.parametrize(
    ("behind", "noise", "is_pruned"),
    [(0.004, 0.1, False), (0.099, 0.1, False), (0.101, 0.1, True), (0.004, None, True)],
)
def test_a_trial_is_pruned_only_if_it_is_worse_than_the_best_by_more_than_the_noise(behind, noise, is_pruned, sign):
    """The baseline was pruned at a quarter of its training, on thousandths of a nat."""
    study = optuna.create_study(
        direction="minimize" if sign > 0 else "maximize",
        pruner=pruner_of("asha", {}, num_points=4, noise={} if noise is None else {1: noise}),
    )
    first, second = study.ask(), study.ask()
    first.report(sign * 2.0, 1)
    assert not first.should_prune()
    second.report(sign * (2.0 + behind), 1)
    assert second.should_prune() == is_pruned
    note = study.trials[1].user_attrs.get(KEPT, "")
    assert note.startswith(f"not pruned at point 1, where it is {behind:.2g} worse than the best") != is_pruned


def test_a_value_that_is_no_number_neither_is_the_best_nor_within_the_noise():
    for noise in ({}, {1: 0.1}):
        study = optuna.create_study(pruner=pruner_of("asha", {}, num_points=4, noise=noise))
        trials = [study.ask() for _ in range(3)]
        for trial, value in zip(trials, (math.nan, 2.0, 5.0), strict=True):
            trial.report(value, 1)
        assert not trials[1].should_prune()
        assert trials[2].should_prune()
        assert trials[0].should_prune()
