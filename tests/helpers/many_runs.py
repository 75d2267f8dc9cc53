"""Thousands of runs in every state: one of each is written by the project's own classes, the others are its copies."""

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence

from aimv2.runs import index
from aimv2.runs.failure import Failure
from aimv2.runs.index import Entry
from aimv2.runs.record import RunFolder
from aimv2.spec.metrics import Metric

METRICS = {"caption_loss": Metric(1.0, "nats/token", "none")}


def write_runs(plan, names: Mapping[str, Sequence[str]], num_rows=300):
    """Write runs of a plan by the state that they are to have: done, failed, interrupted or running.

    This process holds the running ones, and nothing beats for them.
    """
    for state, (first, *others) in names.items():
        _write(plan, first, state, num_rows)
        entry = index.read(plan.runs_dir)[first]
        for name in others:
            shutil.copytree(plan.runs_dir / first, plan.runs_dir / name, copy_function=os.link)
            index.add(plan.runs_dir, name, entry)


def _write(plan, name, state, num_rows):
    config = plan.cell_of[name].config
    attempt = RunFolder(plan.runs_dir, name).acquire(config)
    times = {"images_per_second": 100.0, "learning_rate": 1e-4, "gradient_norm": 1.0, "step_cpu_seconds": 0.5}
    samples = config.budget.samples / num_rows
    rows = [{"step": n, "samples": int(n * samples), "text_loss": 3.0, "seconds": n * 0.5} for n in range(num_rows)]
    with contextlib.suppress(KeyboardInterrupt), attempt:
        attempt.write_rows([row | times for row in rows])
        attempt.write_manifest({"hardware": "none", "code": "0" * 12})
        if state == "done":
            attempt.publish(METRICS, train_flops=1, train_seconds=1.0, mixture={})
            attempt.remove_unfinished()
        elif state == "failed":
            attempt.fail(Failure("bug", "ValueError: a test"), "Traceback")
        elif state == "interrupted":
            raise KeyboardInterrupt
    if state == "running":
        (attempt.folder / "released").unlink()
        index.remove(plan.runs_dir, name, Entry("idle", 1))
        index.add(plan.runs_dir, name, Entry("running", 1))
