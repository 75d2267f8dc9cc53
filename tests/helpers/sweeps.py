"""Arguments that make a sweep small enough to run in a test, the display of a launch, and one that is in progress."""

import time

from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import DEFAULT_SCALE
from aimv2.runs.record import RunFolder
from aimv2.sweeps.board import Board
from aimv2.sweeps.executors.base import queue_of

READER = (  # of studies that compare what a reader reads
    "evaluation.reader.samples=32",
    "evaluation.reader.pairs=16",
    "evaluation.reader.width=16",
    "evaluation.reader.depth=1",
)
SMALL = (
    "sweep.controls=[]",
    "budget.samples=64",
    "model.encoder.width=32",
    "model.encoder.depth=1",
    "model.encoder.num_heads=1",
    "model.decoder.width=32",
    "model.decoder.depth=1",
    "model.decoder.num_heads=1",
    "data.sources=[fontawesome_scenes]",
    "evaluation.num_items=48",
    "evaluation.num_pairs=32",
    "evaluation.num_probe_scenes=40",
    "evaluation.curve_pairs=16",
    "evaluation.curve_points=2",
    "evaluation.num_examples=2",
    "evaluation.probe.epochs=1",
    "evaluation.probe.learning_rates=[1e-3]",
)


def small_sweep(cache_dir, *more, sweep="prefix_ratio"):
    """Return the arguments of a small sweep at demo, of which ``more`` may replace some."""
    study = STUDIES.get(sweep)
    is_of_another = study is not None and study.scale != DEFAULT_SCALE
    scale = ["scale=demo", *READER] if is_of_another else []  # none that repeats a default
    replaced = {argument.partition("=")[0] for argument in more}
    small = [argument for argument in SMALL if argument.partition("=")[0] not in replaced]
    return [f"sweep={sweep}", *scale, f"data.cache_dir={cache_dir}", *small, *more]


def board_of(plan, console=None, **more):
    """Return the display of a plan's progress."""
    return Board(plan, console or Console(quiet=True), queue_of, **more)


def wait_for(find, process):
    """Return what ``find`` finds, once it finds something, while the process runs."""
    while not (found := find()):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    return found


def training(folder):
    """Return a run that has done a step, or None."""
    runs = [RunFolder(path.parent, path.name) for path in (folder / "runs").glob("v2-*")]
    return next((run for run in runs if (run.rows() or [{}])[-1].get("step", 0)), None)
