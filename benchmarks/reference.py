"""Time our training step beside a straightforward one (tests/helpers/reference.py), in wall seconds without the data.

Each step has a process of its own, because malloc's settings hold for a whole process. Ours has those of a run, which
keeps freed memory (aimv2/base/heap.py). Beside it in turn are the reference with the same settings, the reference with
malloc's defaults, and ours with malloc's defaults.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from aimv2.model.network import build
from analysis.costs.ratios import Median, relative
from benchmarks.options import Precision
from benchmarks.results import Table
from benchmarks.timing import Remote, interleaved
from benchmarks.training import CASES, ModelOptions, TrainingStep, batches_of
from tests.helpers.reference import ReferenceStep

OURS, REFERENCE = "ours", "reference"


def measure(options: ModelOptions) -> Iterator[Table]:
    yield Table(
        f"steps of {options.batch} images",
        [
            {"model": model, "precision": precision, "step": step, "its time / ours": ratio}
            for model, precision in options.cases
            for step, ratio in compare(model, precision, options)
        ],
    )


def make_step(kind: str, model: str, precision: Precision, batch_size: int) -> Callable[[], object]:
    """Return a step on a batch of made-up pairs."""
    with tempfile.TemporaryDirectory() as folder:
        batches = batches_of(CASES[model](), Path(folder, "pairs"), batch_size)
        batch, config = batches[0], replace(batches.config, precision=precision)
    return TrainingStep(lambda: batch, config) if kind == OURS else ReferenceStep(build(config), lambda: batch, config)


def compare(model: str, precision: Precision, options: ModelOptions) -> Iterator[tuple[str, Median]]:
    """Yield the name of each of the other steps, and its time over that of ours."""
    steps = {kind: partial(make_step, kind, model, precision, options.batch) for kind in (OURS, REFERENCE)}
    threads = torch.get_num_threads()
    with closing(Remote(steps[OURS], keeps_memory=True, threads=threads)) as ours:
        for kind, keeps_memory in ((REFERENCE, True), (REFERENCE, False), (OURS, False)):
            with closing(Remote(steps[kind], keeps_memory=keeps_memory, threads=threads)) as other:
                seconds = interleaved({"ours": ours, "other": other}, options.repeats, clock=perf_counter)
            name = f"{kind}, malloc {'as ours' if keeps_memory else 'by default'}"
            yield name, relative(seconds["other"], seconds["ours"])
