"""Searches whose trials are done without training."""

from dataclasses import replace

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.design import latin_hypercube, setting
from aimv2.ablations.expand import Cell
from aimv2.ablations.request import Request
from aimv2.ablations.study import confirmation
from aimv2.definitions.metrics import Metric
from aimv2.runs.record import RunFolder
from aimv2.sweeps.search.space import Search, SearchConfig
from aimv2.sweeps.search.work import SearchTasks

BOX = latin_hypercube(
    {"recipe": setting("recipe", {})},
    linear={"objective.pixel_weight": (0.0, 1.0)},
    log={"optimizer.peak_lr": (1e-4, 1e-2)},
    num_points=2,
)


def search(base, *, sweep="loss_weight", name="a_search", seeds=(0, 1), design=None, **values):
    """Return a search over the factors of a study, or of this design in its place."""
    study = STUDIES[sweep]
    if design is not None:
        study = replace(study, design=design, baseline=next(iter(design.arms)), expected={}, claims={})
    return Search(name, study, base, SearchConfig(**values), seeds)


def requested(one):
    """Return the request of a search: the baseline's runs that confirm the winner."""
    baseline = one.study.arms[one.study.baseline].change(one.base)
    study = confirmation(one.study, {one.study.baseline: one.study.arms[one.study.baseline]})
    cells = [Cell(arm=study.baseline, seed=seed, config=replace(baseline, seed=seed)) for seed in one.seeds]
    return Request(study=study, cells=cells, arguments=())


def begin(runs_dir, task):
    """Acquire a task's run, as a worker does; return the attempt, or None if somebody else has it."""
    return RunFolder(runs_dir, task.name).acquire(task.config)


def end(attempt, *, rows=(), train_flops=1000, **metrics):
    """Publish a result with these metrics."""
    with attempt:
        attempt.write_manifest({})
        attempt.write_rows(list(rows) or [{"step": 2, "samples": 16, "train_flops": train_flops, "seconds": 1.0}])
        values = {name: Metric(value, "", "") for name, value in metrics.items()}
        attempt.publish(values, train_flops=train_flops)


def do(runs_dir, task, **metrics):
    """Do a task's run with these results; return False if somebody else has it."""
    attempt = begin(runs_dir, task)
    if attempt is not None:
        end(attempt, **metrics)
    return attempt is not None


def end_trial(folder, state, task=None, *values, **more):
    """Draw a trial of a search unless it was drawn, and record how it ended; return its task."""
    task = task or folder.ask()
    folder.end(replace(folder.trials[task.trial], state=state, values=values, **more))
    return task


def settle(folder):
    """Record the trials of a search that are over, as a worker does that looks for tasks; return all trials."""
    SearchTasks(folder, []).open_tasks()
    return folder.trials
