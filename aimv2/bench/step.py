"""Time training steps beside the matrix product of the same machine, interleaved in one process. Letters: R repeats."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from benchmarks.encoder import PRECISIONS, Precision
from benchmarks.peak import peak_bytes
from benchmarks.timing import CLOCKS, interleaved, ratio, read_options
from benchmarks.training import CASES, PARTS, TrainingStep, batches_of, useful_flops
from pydantic import Field, PositiveInt
from rich.console import Console
from rich.table import Table

from aimv2.base.errors import UsageError, unknown
from aimv2.base.files import write_text
from aimv2.base.hardware import hardware, missing_for_compile
from aimv2.base.heap import keep_freed_memory
from aimv2.config.arguments import HELP
from aimv2.data.batches.training import TrainBatches
from aimv2.training.rate import product_shape

STEP, PRODUCT, EAGER = "step", "torch.mm", "eager step"
WARM_UPS = 2  # calls of ``interleaved`` that are not timed

FOOTNOTE = (
    "ms: medians of a batch's data, forward and backward pass, and clipping with the optimizer. images / s leaves out"
    " the data, which loader workers prepare beside the step. needed: what the losses need (real captions without"
    " padding, pixels of patches after the prefixes, pairs that the masks let through). mm: the encoder's first FFN"
    " product. share of mm: the rate of what is needed, relative to that of mm, with its 95 % interval by order"
    " statistics. memory: of a step, beyond weights and moments."
)
USAGE = f"""usage: python -m aimv2 bench step [key=value ...]

Time training steps of three models beside a matrix product, interleaved in one process: by part, as images per second,
and as a share of the product's rate; and measure their memory.

  model=vit_l_shape            {", ".join(CASES)} (ViT-L with 4 + 2 blocks); all by default
  precision=bfloat16           float32 or bfloat16; both by default
  batch=16                     images per step
  repeats=10                   timings of each step; an interval needs 6
  threads=2                    CPU threads; the default is all cores
  compile=false                true: with compiled blocks, and the same step without them beside it
  clock=wall                   wall, or cpu: CPU seconds of the process, for a busy machine
  json=FILE                    also write the results here
  debug=true                   show the traceback of an error
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of ``bench step``, as USAGE describes them; None is the default described there."""

    model: str | None = None
    precision: Precision | None = None
    batch: PositiveInt = 16
    repeats: Annotated[int, Field(ge=2)] = 10
    threads: PositiveInt | None = None
    compile: bool = False
    clock: Literal["wall", "cpu"] = "wall"
    json: str | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The timings of a model's step in a precision.

    Attributes:
        seconds: medians, by part.
        images_per_second: without the time of the data.
        useful_flops: of a step.
        product_flops_per_second: the rate of the matrix product.
        share, share_low, share_high: the step's rate of useful FLOPs as a share of it, and its 95 % interval.
        peak_bytes: of a step, beyond weights and moments.
        caption_tokens: the mean length of the captions.
        eager_ratio: the time of the step without compiled blocks over that with them, and its 95 % interval; None if
            they are not compiled.
    """

    model: str
    precision: Precision
    batch_size: int
    repeats: int
    seconds: dict[str, float]
    images_per_second: float
    useful_flops: int
    product_flops_per_second: float
    share: float
    share_low: float
    share_high: float
    peak_bytes: int
    caption_tokens: float
    eager_ratio: tuple[float, float, float] | None = None


def step_command(arguments: Sequence[str]) -> int:
    """Run ``bench step [key=value ...]`` and print the results.

    Raises:
        UsageError: the arguments cannot be read, or the file cannot be written.
    """
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    options = read_options(Options, arguments)
    if options.model is not None and options.model not in CASES:
        raise unknown("model", options.model, CASES)
    if options.json is not None and not Path(options.json).absolute().parent.is_dir():
        raise UsageError(f"json={options.json}: there is no such folder")
    if options.compile and (missing := missing_for_compile("cpu")):
        raise UsageError(f"compile=true needs {missing}, which this machine lacks")
    keep_freed_memory()
    before = torch.get_num_threads()
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(options.threads or num_cores)
    try:
        results = measure_all(options)
        sentence = _sentence(options)
    finally:
        torch.set_num_threads(before)
    console = Console()
    for precision in PRECISIONS:
        if some := [result for result in results if result.precision == precision]:
            console.print(table(some, f"training step, {precision}"))
    console.print(FOOTNOTE, highlight=False)
    console.print(sentence, highlight=False)
    if options.json is not None:
        content = {"machine": sentence, "results": [_finite(asdict(result)) for result in results]}
        write_text(Path(options.json), json.dumps(content, indent=1) + "\n")
    return 0


def measure_all(options: Options) -> list[Result]:
    """Measure the steps of the options' models and precisions."""
    results: list[Result] = []
    for name in [options.model] if options.model else list(CASES):
        with tempfile.TemporaryDirectory(prefix="aimv2-bench-") as folder:
            batches = batches_of(CASES[name](), Path(folder) / "pairs", options.batch)
            precisions = [options.precision] if options.precision else list(PRECISIONS)
            results += [measure(name, batches, precision, options) for precision in precisions]
    return results


def measure(name: str, batches: TrainBatches, precision: Precision, options: Options) -> Result:
    """Time the step and the encoder's first FFN product in turn, and measure the step's memory."""
    config = replace(batches.config, precision=precision, compile=options.compile)
    batch, clock = batches[0], CLOCKS[options.clock]
    step = TrainingStep(lambda: batches[0], config, clock)
    rows, width, columns = shape = product_shape(config, options.batch)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, width, generator=generator).to(PRECISIONS[precision]) for size in (rows, columns))
    calls: dict[str, Callable[[], object]] = {STEP: step, PRODUCT: lambda: torch.mm(left, right.T)}
    if options.compile:
        calls[EAGER] = TrainingStep(lambda: batches[0], replace(config, compile=False), clock)
    seconds = interleaved(calls, options.repeats, clock=clock)
    parts = {part: float(np.median(step.seconds[part][WARM_UPS:])) for part in PARTS}
    flops, product_flops = useful_flops(config, batch), 2 * math.prod(shape)
    computing_R = seconds[STEP] - parts["data"]
    shares = [flops / product_flops * value for value in ratio(seconds[PRODUCT], computing_R)]
    return Result(
        model=name,
        precision=precision,
        batch_size=options.batch,
        repeats=options.repeats,
        seconds=parts,
        images_per_second=options.batch / float(np.median(computing_R)),
        useful_flops=flops,
        product_flops_per_second=product_flops / float(np.median(seconds[PRODUCT])),
        share=shares[0],
        share_low=shares[1],
        share_high=shares[2],
        peak_bytes=peak_bytes(step),
        caption_tokens=float(batch.text_len_B.double().mean()),
        eager_ratio=ratio(seconds[EAGER], seconds[STEP]) if options.compile else None,
    )


def table(results: Sequence[Result], title: str) -> Table:
    """Return a column per result."""
    shown = Table("", title=title)
    for result in results:
        shown.add_column(result.model, justify="right")
    columns = [_cells(result) for result in results]
    for name in columns[0]:
        shown.add_row(name, *(column[name] for column in columns))
    return shown


def _cells(result: Result) -> dict[str, str]:
    has_interval = not math.isnan(result.share_low)
    eager, low, high = result.eager_ratio or (math.nan,) * 3
    return {
        "images / s": f"{result.images_per_second:,.1f}",
        **{f"{part}, ms": f"{1000 * result.seconds[part]:,.1f}" for part in PARTS},
        "needed, GFLOP": f"{result.useful_flops / 1e9:,.1f}",
        "mm, GFLOP / s": f"{result.product_flops_per_second / 1e9:,.0f}",
        "share of mm": f"{result.share:.0%}",
        "95 %": f"{result.share_low:.0%} – {result.share_high:.0%}" if has_interval else "",
        "memory, GB": f"{result.peak_bytes / 1e9:.2f}",
        **({"eager / compiled": f"{eager:.2f} [{low:.2f}, {high:.2f}]"} if result.eager_ratio else {}),
    }


def _finite(value: Any) -> Any:
    """Replace NaN, which JSON lacks, by None in nested values."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _sentence(options: Options) -> str:
    """Describe the machine, the versions and the sizes."""
    return (
        f"{hardware('cpu')}, {torch.get_num_threads()} threads, torch {metadata.version('torch')}: batches of"
        f" {options.batch}, medians of {options.repeats} interleaved repeats in {options.clock} seconds."
    )
