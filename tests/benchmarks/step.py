"""python tests/benchmarks/step.py [model=vit_l_shape] [precision=float32] [batch=16] [repeats=10] [threads=2]
[operations=false]: our step and a straightforward one (tests/helpers/reference.py), in wall seconds.

Each step has a process of its own, because malloc's settings hold for a whole process. Ours has those of a run, which
keeps freed memory (aimv2/base/heap.py). Beside it in turn are the reference with the same settings, the reference with
malloc's defaults, and ours with malloc's defaults. Prints the median over repeats of the ratio of each one's time to
ours, and its 95 % interval by order statistics, which needs 6 repeats.

With ``operations=true``, prints what both steps consist of instead: the milliseconds of torch's operations by kind,
calls included (a timer adds about 1 µs to each), the rest of the step's time, and the FLOPs that torch's counter finds.
All models and precisions by default. Times leave out
the data.
"""

import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, NamedTuple

if __name__ == "__main__":  # typed as a path: the code beside this file is meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from aimv2.base.errors import UsageError, unknown
from aimv2.base.heap import keep_freed_memory
from benchmarks.encoder import PRECISIONS, Precision
from benchmarks.timing import interleaved, ratio, read_options
from benchmarks.training import CASES, TrainingStep, batches_of
from pydantic import Field, PositiveInt
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from aimv2.model.network import build
from tests.helpers.reference import ReferenceStep

USAGE = f"{__doc__}"
OURS, REFERENCE = "ours", "reference"

PRODUCTS, TRANSPOSED = "matrix products", "those of a transposed matrix: gradients of weights"
ATTENTION, OPTIMIZER = "attention", "clipping and AdamW"
COPIES, ELEMENTWISE = "copies, casts, lookups, joins", "all else, mostly element by element, and sums"
REST = "time outside of operations: views, autograd"
COPY_NAMES = ("_to_copy", "copy_", "clone", "cat", "embedding", "embedding_dense_backward", "index_select", "index_add")
COPY_NAMES += ("slice_backward", "index", "index_put_", "zeros", "zeros_like", "new_zeros", "full_like")


def make_step(kind: str, model: str, precision: str, batch_size: int, folder: Path) -> Callable[[], object]:
    """Return a step on pairs that are made in a folder."""
    batches = batches_of(CASES[model](), folder / "pairs", batch_size)
    batch, config = batches[0], replace(batches.config, precision=precision)
    return TrainingStep(lambda: batch, config) if kind == OURS else ReferenceStep(build(config), lambda: batch, config)


class Remote:
    """A step in a process of its own, ``pid``; a call takes one step."""

    def __init__(self, make: Callable[[Path], Callable[[], object]], *, keeps_memory: bool, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, keeps_memory, threads), daemon=True)
        self._process.start()
        self.pid = self._process.pid
        theirs.close()  # so that reading fails if the process ends
        self._pipe.recv()

    def __call__(self) -> None:
        self._pipe.send(True)
        self._pipe.recv()

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(pipe: Connection, make: Callable[[Path], Callable[[], object]], keeps_memory: bool, threads: int) -> None:
    if keeps_memory:
        keep_freed_memory()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        step = make(Path(folder))
        pipe.send(True)
        try:
            while pipe.recv():
                step()
                pipe.send(True)
        except EOFError:  # the benchmark has closed its end
            return


def compare(model: str, precision: str, batch_size: int, repeats: int, threads: int) -> None:
    """Print a line for each of the other steps."""
    steps = {kind: partial(make_step, kind, model, precision, batch_size) for kind in (OURS, REFERENCE)}
    for kind, keeps_memory in ((REFERENCE, True), (REFERENCE, False), (OURS, False)):
        with (
            closing(Remote(steps[OURS], keeps_memory=True, threads=threads)) as ours,
            closing(Remote(steps[kind], keeps_memory=keeps_memory, threads=threads)) as other,
        ):
            seconds = interleaved({"ours": ours, "other": other}, repeats, clock=perf_counter)
        median, low, high = ratio(seconds["other"], seconds["ours"])
        name = f"{kind}, malloc {'as ours' if keeps_memory else 'by default'}"
        print(f"| {model} | {precision} | {name} | {median:.2f} [{low:.2f}, {high:.2f}] |", flush=True)


class Operations(TorchDispatchMode):
    """Times torch's operations within it, below autograd.

    Attributes:
        seconds: by kind, calls included; views have none.
        flops: by kind, of the products that torch's counter knows.
        calls: by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        start = perf_counter()
        result = func(*args, **kwargs)
        seconds = perf_counter() - start
        self.calls[func.overloadpacket.__name__] += 1
        if not func.is_view:
            count_flops = flop_registry.get(func.overloadpacket)
            kind = kind_of(func.overloadpacket.__name__, args, is_product=count_flops is not None)
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


class Composition(NamedTuple):
    """What a step consists of, as medians.

    Attributes:
        seconds: by kind.
        flops_per_second: by kind of product.
        calls: of operations.
        flops: of a step, by torch's counter.
    """

    seconds: dict[str, float]
    flops_per_second: dict[str, float]
    calls: int
    flops: int


def composition(step: Callable[[], object], repeats: int) -> Composition:
    """Time whole steps and their operations in turn."""
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
    kinds = (PRODUCTS, TRANSPOSED, ATTENTION, ELEMENTWISE, COPIES, OPTIMIZER)
    seconds = {kind: float(np.median([each.seconds[kind] for each in timed])) for kind in kinds}
    rates = {kind: timed[-1].flops[kind] / seconds[kind] for kind in (PRODUCTS, TRANSPOSED)}
    seconds[REST] = float(np.median(wholes)) - sum(seconds.values())
    # torch's counter knows no attention on the CPU, but the products that this backend computes it by.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return Composition(seconds, rates, timed[-1].calls.total(), counter.get_total_flops())


def explain(model: str, precision: str, batch_size: int, repeats: int) -> None:
    """Print a table of both steps."""
    found = []
    for kind in (OURS, REFERENCE):
        with tempfile.TemporaryDirectory() as folder:
            found.append(composition(make_step(kind, model, precision, batch_size, Path(folder)), repeats))
    print(f"\n| {model}, {precision} | {OURS} | {REFERENCE} |\n| --- | --- | --- |")
    for part in found[0].seconds:
        print(f"| {part} | {' | '.join(_cell(each, part) for each in found)} |")
    print(f"| a step | {' | '.join(f'{1000 * sum(each.seconds.values()):,.1f} ms' for each in found)} |")
    print(f"| calls of operations | {' | '.join(f'{each.calls:,}' for each in found)} |")
    print(f"| GFLOP | {' | '.join(f'{each.flops / 1e9:,.1f}' for each in found)} |", flush=True)


def _cell(found: Composition, part: str) -> str:
    seconds = found.seconds[part]
    if seconds < 0:
        return "less than the noise"
    cell = f"{1000 * seconds:,.1f} ms, {100 * seconds / sum(found.seconds.values()):.0f} %"
    rate = found.flops_per_second.get(part)
    return f"{cell}, at {rate / 1e9:,.0f} GFLOP/s" if rate else cell


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options, as USAGE describes them; None is all."""

    model: str | None = None
    precision: Precision | None = None
    batch: PositiveInt = 16
    repeats: Annotated[int, Field(ge=2)] = 10
    threads: PositiveInt = 2
    operations: bool = False


def main(words: Sequence[str]) -> int:
    """Print tables."""
    if "--help" in words:
        print(USAGE, end="")
        return 0
    try:
        options = read_options(Options, words)
        if options.model not in (None, *CASES):
            raise unknown("model", options.model, CASES)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    models = [options.model] if options.model else list(CASES)
    precisions = [options.precision] if options.precision else list(PRECISIONS)
    if options.operations:
        keep_freed_memory()
        torch.set_num_threads(options.threads)
    else:
        print("| model | precision | step | its time / ours [95 %] |\n| --- | --- | --- | --- |")
    for model, precision in product(models, precisions):
        if options.operations:
            explain(model, precision, options.batch, options.repeats)
        else:
            compare(model, precision, options.batch, options.repeats, options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
