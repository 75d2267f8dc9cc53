"""``python -m aimv2 cost``: the cost of a run, and its setup on some numbers of ranks. Only a GPU needs torch."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from aimv2.base.errors import UsageError
from aimv2.config.arguments import HELP, defaults_of, read_options
from aimv2.config.program import replaced
from aimv2.config.run_config import RunConfig
from aimv2.cost import Part, forward_flops, train_flops
from aimv2.definitions.objectives import objective
from aimv2.memory.machine import has_cuda, rank_memory
from aimv2.memory.setup import USABLE, Choice, choose
from aimv2.memory.training import FLOAT32
from aimv2.request.compose import compose, run_config, with_file
from aimv2.request.origin import with_start
from aimv2.request.resolve import with_attention
from aimv2.tools.options import PlanOptions, cost_usage

PARTS_LEGEND = """FLOPs are per image, 2 for a multiply-add. Norms, activation functions and softmax are not counted.
  forward      FLOPs of a forward pass
  attention    the part of forward that is attention, over all pairs of positions
  useful       the part of attention that the mask lets through
  training     FLOPs of a forward and a backward pass
  activations  bytes per image saved for the backward pass, in float32
"""

console = Console(highlight=False)


@dataclass(frozen=True)
class Plan:
    """A run on a number of ranks; ``rate`` is in TFLOP/s of each, or None if it is not known."""

    config: RunConfig
    choice: Choice
    rate: float | None

    def cells(self, parts: Sequence[Part]) -> dict[str, str]:
        config, setup, memory = self.config, self.choice.setup, self.choice.memory
        share = config.budget.batch_size // config.ranks
        cells = {
            "ranks": f"{config.ranks:,}",
            "parallel": setup.parallel if config.ranks > 1 else "–",
            "images of a micro-batch": f"{setup.micro_batch:,}",
            "micro-batches of a step": f"{-(-share // setup.micro_batch):,}",
            "activation checkpointing": "yes" if setup.activation_checkpointing else "no",
            "memory of a rank": _gigabytes(memory.total),
        }
        cells |= {f"  {kind}": _gigabytes(size) for kind, size in asdict(memory).items()}
        evaluation = self.choice.evaluation
        cells["memory of the evaluation"] = _gigabytes(evaluation.device)
        cells["  temporary files"] = _gigabytes(evaluation.files)
        cells["fits"] = "yes" if self.choice.fits else "no"
        return cells | ({} if self.rate is None else self._times(parts, self.rate))

    def _times(self, parts: Sequence[Part], rate: float) -> dict[str, str]:
        config, tokens = self.config, self.config.model.max_text_tokens
        flops = train_flops(parts, 1, tokens)
        if self.choice.setup.activation_checkpointing:  # the blocks' forward pass is computed twice
            flops += forward_flops([part for part in parts if part.blocks and not part.is_frozen], 1, tokens)
        speed = config.ranks * 1e12 * rate / flops
        hours = config.budget.samples / speed / 3600
        return {
            "samples/s": f"{speed:,.0f}",
            "hours": _shown(hours),
            "GPU-hours" if config.device == "cuda" else "rank-hours": _shown(config.ranks * hours),
        }


def _shown(hours: float) -> str:
    """Return hours with a digit behind the point up to 1,000, or two significant digits of a few."""
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.1f}" if hours < 1000 else f"{hours:,.0f}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"


def cost_command(arguments: Sequence[str]) -> int:
    if HELP & set(arguments):
        print(cost_usage(), end="")
        return 0
    arguments = with_file(arguments)
    own = [text for text in arguments if text.partition("=")[0] in defaults_of(PlanOptions)]
    options = read_options(PlanOptions, own)
    config = run_config(compose([text for text in arguments if text not in own], defaults={}))
    memory = options.gpu
    config = with_start(_on_device(with_attention(config), "cuda" if memory else None))
    goal = objective(config.objective.name)
    goal.check(config)
    parts, plans = goal.cost(config), list[Plan]()
    for number in options.ranks:
        run = replaced(config, {"ranks": number})
        plans.append(Plan(run, choose(run, memory or rank_memory(run)), options.rate))
    _print_parts(config, parts)
    _print_plans(plans, parts)
    return 0


def _on_device(config: RunConfig, device: Literal["cuda"] | None) -> RunConfig:
    """Return the run with the given device, or this machine's in the place of ``auto``, and its precision."""
    if device and config.device == "cpu":
        raise UsageError("gpu= is the memory of a GPU, but the run has device=cpu")
    here: Literal["cuda", "cpu"] = device or ("cuda" if has_cuda() else "cpu")
    if config.device == "cuda" != here:
        raise UsageError("device=cuda, but torch finds no CUDA device here; add the memory of one, such as gpu=80GB")
    device_of_run = here if config.device == "auto" else config.device
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if device_of_run == "cuda" else "float32"
    return replace(config, device=device_of_run, precision=precision)


def _print_parts(config: RunConfig, parts: Sequence[Part]) -> None:
    model, samples = config.model, config.budget.samples
    tokens = model.max_text_tokens
    console.print(
        f"scale {config.scale}, objective {config.objective.name}: {model.image_px} px images in {model.num_patches}"
        f" patches, captions of {tokens} tokens",
        soft_wrap=True,
    )
    if areas := config.native.areas:
        console.print(
            f"native resolution: images of at most {areas[0]:,} to {areas[-1]:,} patches; FLOPs and activations are"
            f" means for {model.num_patches} patches, and memory is that of the area that takes the most",
            soft_wrap=True,
        )
    columns: dict[str, Sequence[float]] = {
        "parameters": [part.parameters for part in parts],
        "forward": [forward_flops([part], 1, tokens) for part in parts],
        "attention": [part.attention for part in parts],
        "useful": [part.useful_attention for part in parts],
        "training": [train_flops([part], 1, tokens) for part in parts],
        "activations": [FLOAT32 * (part.saved + tokens * part.saved_per_token) for part in parts],
    }
    table = Table(Column("", "all"), show_footer=True, box=SIMPLE, padding=(0, 1, 0, 0))
    for title, values in columns.items():
        table.add_column(title, _in_thousands(sum(values)), justify="right")
    for part, *row in zip(parts, *columns.values(), strict=True):
        table.add_row(part.name, *map(_in_thousands, row))
    console.print(table)
    flops = train_flops(parts, samples, samples * tokens)
    console.print(
        f"{PARTS_LEGEND}\nA run of {samples:,} samples takes {flops:.3g} training FLOPs if every caption has {tokens}"
        " tokens.\n",
        soft_wrap=True,
    )


def _print_plans(plans: Sequence[Plan], parts: Sequence[Part]) -> None:
    """Print a column for each plan, and the assumptions."""
    columns = [plan.cells(parts) for plan in plans]
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), show_header=False)
    for title in columns[0]:
        table.add_row(title, *(column[title] for column in columns))
    console.print(table)
    config, usable = plans[0].config, sorted({plan.choice.usable for plan in plans})
    sizes = " or ".join(f"{size / 1e9:,.1f}" for size in usable)
    console.print(
        f"{'Memory' if config.device == 'cpu' else 'GPU memory'} is predicted for {config.precision}, at the largest"
        f" moment of a step, and may take {USABLE:.0%} of what there is, {sizes} GB a rank.",
        soft_wrap=True,
    )
    if (rate := plans[0].rate) is not None:
        console.print(f"The times assume {rate:g} TFLOP/s on each rank, and no waiting for data.", soft_wrap=True)


def _in_thousands(value: float) -> str:
    """Format a number with four digits and an SI prefix: 309197824 is 309.2 M."""
    if not value:
        return "–"
    power = min(int(math.log10(value)) // 3, 5) if value >= 1000 else 0
    return f"{value / 1000**power:.4g} {' kMGTP'[power]}".rstrip()
