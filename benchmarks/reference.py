"""Time our training step beside a straightforward one (tests/helpers/reference.py), in wall seconds without the data.

Each step has a process of its own, because malloc's settings hold for a whole process. Ours has those of a run, which
keeps freed memory (aimv2/base/heap.py). Beside it in turn are the reference with the same settings, the reference with
malloc's defaults, and ours with malloc's defaults.

With operations=true, both steps are taken apart instead: the milliseconds of torch's operations by kind, calls
included (a timer adds about 1 µs to each), the rest of the step's time, and the FLOPs that torch's counter finds.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from aimv2.base.heap import keep_freed_memory
from aimv2.config.data_config import CHECKED
from aimv2.model.network import build
from analysis.costs.ratios import Median, relative
from benchmarks.options import Precision
from benchmarks.results import Cell, Table
from benchmarks.timing import Remote, interleaved
from benchmarks.training import CASES, ModelOptions, TrainingStep, batches_of
from tests.helpers.reference import ReferenceStep

OURS, REFERENCE = "ours", "reference"

PRODUCTS, TRANSPOSED = "matrix products", "those of a transposed matrix: gradients of weights"
ATTENTION, OPTIMIZER = "attention", "clipping and AdamW"
COPIES, ELEMENTWISE = "copies, casts, lookups, joins", "all else, mostly element by element, and sums"
KINDS = (PRODUCTS, TRANSPOSED, ATTENTION, ELEMENTWISE, COPIES, OPTIMIZER)
REST = "time outside of operations: views, autograd"
COPY_NAMES = frozenset(
    [
        "_to_copy",
        "copy_",
        "clone",
        "cat",
        "embedding",
        "embedding_dense_backward",
        "index_select",
        "index_add",
        "slice_backward",
        "index",
        "index_put_",
        "zeros",
        "zeros_like",
        "new_zeros",
        "full_like",
    ]
)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ReferenceOptions(ModelOptions):
    """Which steps to compare."""

    operations: bool = Field(default=False, description="true: what both steps consist of")


def measure(options: ReferenceOptions) -> Iterator[Table]:
    """Yield a table of all steps, or a table for each model and precision of what its steps consist of."""
    if options.operations:
        keep_freed_memory()
        for model, precision in options.cases:
            steps = [
                composition(make_step(kind, model, precision, options.batch), options.repeats)
                for kind in (OURS, REFERENCE)
            ]
            rows: list[dict[str, Cell]] = [
                {"ms": name, OURS: ours, REFERENCE: theirs}
                for (name, ours), theirs in zip(steps[0].items(), steps[1].values(), strict=True)
            ]
            yield Table(f"what a step of {model} consists of, {precision}", rows)
        return
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


def compare(model: str, precision: Precision, options: ReferenceOptions) -> Iterator[tuple[str, Median]]:
    """Yield the name of each of the other steps, and its time over that of ours."""
    steps = {kind: partial(make_step, kind, model, precision, options.batch) for kind in (OURS, REFERENCE)}
    threads = torch.get_num_threads()
    for kind, keeps_memory in ((REFERENCE, True), (REFERENCE, False), (OURS, False)):
        with (
            closing(Remote(steps[OURS], keeps_memory=True, threads=threads)) as ours,
            closing(Remote(steps[kind], keeps_memory=keeps_memory, threads=threads)) as other,
        ):
            seconds = interleaved({"ours": ours, "other": other}, options.repeats, clock=perf_counter)
        name = f"{kind}, malloc {'as ours' if keeps_memory else 'by default'}"
        yield name, relative(seconds["other"], seconds["ours"])


class Operations(TorchDispatchMode):
    """Times torch's operations within it, below autograd.

    Attributes:
        seconds: by kind, calls included; views have none.
        flops: by kind, of the products that torch's counter knows.
        calls: by name.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        self.flops: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        start = perf_counter()
        result = func(*args, **kwargs)
        seconds = perf_counter() - start
        name = func.overloadpacket.__name__
        self.calls[name] += 1
        if not func.is_view:
            count_flops = flop_registry.get(func.overloadpacket)
            kind = kind_of(name, args, is_product=count_flops is not None)
            self.seconds[kind] += seconds
            self.flops[kind] += count_flops(*args, **kwargs, out_val=result) if count_flops else 0
        return result


def kind_of(name: str, args: Any, *, is_product: bool) -> str:
    """Return the kind of one of torch's operations."""
    if name.startswith("_scaled_dot_product"):
        return ATTENTION
    if is_product:
        return TRANSPOSED if name == "mm" and not args[0].is_contiguous() else PRODUCTS
    if name.startswith(("_foreach_", "_fused_adamw")):
        return OPTIMIZER
    return COPIES if name in COPY_NAMES else ELEMENTWISE


def composition(step: Callable[[], object], repeats: int) -> dict[str, float]:
    """Time whole steps and their operations in turn; return medians in milliseconds by kind, and counts."""
    for _ in range(2):
        step()  # allocates, and makes the optimizer's moments
    wholes, timed = [], []
    for _ in range(repeats):
        start = perf_counter()
        step()
        wholes.append(perf_counter() - start)
        with Operations() as operations:
            step()
        timed.append(operations)
    seconds = {kind: float(np.median([each.seconds[kind] for each in timed])) for kind in KINDS}
    rates = {kind: timed[-1].flops[kind] / seconds[kind] for kind in (PRODUCTS, TRANSPOSED)}
    whole = float(np.median(wholes))
    # torch's counter knows no attention on the CPU, but the products that this backend computes it by.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return {
        **{kind: 1000 * value for kind, value in seconds.items()},
        REST: 1000 * (whole - sum(seconds.values())),
        "a step": 1000 * whole,
        **{f"GFLOP / s of {kind}": rate / 1e9 for kind, rate in rates.items()},
        "calls of operations": timed[-1].calls.total(),
        "GFLOP": counter.get_total_flops() / 1e9,
    }
