"""How long the encoder takes, beside two other implementations of it, on one machine and in one run.

Letters: B images, I patches, D encoder width, F FFN hidden, R repeats.
"""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveInt
from rich.console import Console
from rich.table import Table
from scipy.stats import quantile_test
from torch import Tensor

from aimv2.config.arguments import HELP, checked, key_values
from aimv2.config.resolve import with_attention
from aimv2.config.run_config import ModelConfig, RunConfig
from aimv2.config.scales import SCALES
from aimv2.cost import encoder_cost
from aimv2.errors import RunFailedError, UsageError, unknown
from aimv2.hardware import hardware
from aimv2.model.encoder import Encoder

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # relative difference of features that are still called the same
STRETCH_S = 0.05  # a timing lasts at least this long, so that the clock's own cost does not count
CUDA_BATCH = 32
PRODUCT = "torch.mm"
WIDE = 0.1  # an interval wider than this share of its ratio settles nothing

FOOTNOTE = (
    "theirs / ours: repeat by repeat, the two timings that stand next to each other; the median of these ratios, and"
    " its 95 % interval by order statistics."
)
USAGE = f"""usage: python -m aimv2 bench encoder [key=value ...]

Time the encoder beside timm's and transformers' with the same weights, interleaved in one run, once their features
agree.

  scale=vit_l                  whose encoder ({", ".join(SCALES)})
  depth=24                     blocks, for a quick look; the recipe's unless given
  repeats=10                   timings of each; from 6 on there is an interval
  batch_size=1                 images per call; 1 on the CPU and {CUDA_BATCH} on CUDA unless given
  threads=2                    on the CPU; all cores unless given
  device=auto                  auto, cpu or cuda
  debug=true                   show the traceback of an error
"""

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What ``bench encoder`` reads from its command line.

    Attributes:
        scale: the recipe whose encoder is timed.
        batch_size: images per call; None is 1 on the CPU and 32 on CUDA.
        repeats: timings of each implementation.
        threads: on the CPU; None is all cores.
        depth: blocks, for a quick look; None is the recipe's.
    """

    scale: str = "vit_l"
    batch_size: PositiveInt | None = None
    repeats: Annotated[int, Field(ge=2)] = 10
    threads: PositiveInt | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    depth: PositiveInt | None = None


class Ratio(NamedTuple):
    """A median, and its 95 % interval: NaN where there are fewer than six repeats."""

    median: float
    low: float
    high: float

    @property
    def is_wide(self) -> bool:
        """Whether the interval is wider than a tenth of the ratio, or not known."""
        return not self.high - self.low <= WIDE * self.median


def bench_command(arguments: Sequence[str]) -> int:
    """Run ``bench encoder [key=value ...]`` and print what was measured.

    Raises:
        UsageError: the arguments cannot be read, or a package to compare with is missing.
        RunFailedError: the implementations do not compute the same features, so that there is nothing to compare.
    """
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    if not arguments or arguments[0] != "encoder":
        raise unknown("benchmark", arguments[0] if arguments else "", ["encoder"])
    options = read_options(arguments[1:])
    config = encoder_config(options)
    device = _device(options.device)
    batch_size = options.batch_size or (CUDA_BATCH if device == "cuda" else 1)
    _require_packages()
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads or _num_cores())
    try:
        console = Console()
        for precision in PRECISIONS:
            seconds = measure(config, precision, batch_size=batch_size, repeats=options.repeats, device=device)
            console.print(table(seconds, config, batch_size, title=f"encoder of {config.scale}, {precision}"))
            for warning in warnings(seconds):
                console.print(warning, style="yellow", highlight=False, soft_wrap=True)
        console.print(FOOTNOTE, highlight=False)
        console.print(_sentence(config, batch_size, options.repeats, device), highlight=False)
    finally:
        torch.set_num_threads(before)
    return 0


def read_options(arguments: Sequence[str]) -> Options:
    """The options of a command line.

    Raises:
        UsageError: an argument that is not ``key=value``, a key that does not exist or is there twice, or a value that
            cannot be.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(Options)}
    given = key_values(arguments, kinds)
    values: dict[str, Any] = {key: checked(key, kinds[key], value) for key, value in given.items()}
    return Options(**values)


def encoder_config(options: Options) -> RunConfig:
    """The recipe, at another depth if asked for.

    Raises:
        UsageError: an unknown recipe, or one whose encoder the other packages do not have.
    """
    if options.scale not in SCALES:
        raise unknown("scale", options.scale, SCALES)
    config = with_attention(SCALES[options.scale]())
    encoder = config.model.encoder
    kind = (encoder.norm, encoder.ffn, encoder.positions, config.model.patch_order)
    if kind != ("rms", "swiglu", "learned", "raster"):
        raise UsageError(
            f"scale={options.scale!r} has an encoder with {', '.join(kind)}; timm and transformers can be compared only"
            " with rms, swiglu, learned, raster"
        )
    if options.depth is not None:
        encoder = dataclasses.replace(encoder, depth=options.depth)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, encoder=encoder))


def measure(config: RunConfig, precision: str, *, batch_size: int, repeats: int, device: str) -> dict[str, np.ndarray]:
    """Seconds per call, float64 [R] each, of the three encoders and of the FFN's matrix product.

    Weights and activations are in the given precision, and all three encoders share one set of weights.

    Raises:
        RunFailedError: the features differ.
    """
    model = config.model
    generator = torch.Generator().manual_seed(0)
    encoder = Encoder(model).eval()
    encoder.init_weights_(generator)
    encoder.to(device, PRECISIONS[precision])
    image = torch.randn(batch_size, 3, model.image_px, model.image_px, generator=generator)
    image = image.to(device, PRECISIONS[precision])
    encoders = implementations(encoder, model)
    calls: dict[str, Call] = {name: partial(encode, image) for name, encode in encoders.items()}
    rows, width, columns = _product_shape(config, batch_size)
    left = torch.randn(rows, width, generator=generator).to(image)
    right = torch.randn(columns, width, generator=generator).to(image).T  # as a layer keeps its weight
    calls[PRODUCT] = partial(torch.mm, left, right)
    # Only now: weights made in inference mode send torch.matmul another, slower way for some layouts of its input.
    with torch.inference_mode():
        require_same(encoders, image, TOLERANCE[precision])
        return interleaved(calls, repeats, synchronise=torch.cuda.synchronize if device == "cuda" else None)


def implementations(encoder: Encoder, config: ModelConfig) -> dict[str, Callable[[Tensor], Tensor]]:
    """Images to features, ours first, then by timm and by transformers with the very same weights (no copies)."""
    import timm
    import transformers

    sizes = config.encoder
    of_timm: Any = timm.create_model(
        "aimv2_large_patch14_224",
        img_size=config.image_px,
        patch_size=config.patch_px,
        embed_dim=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.num_heads,
        mlp_ratio=(sizes.ffn_hidden + 0.5) / sizes.width,  # timm rounds the product down
        num_classes=0,
    )
    of_transformers: Any = transformers.Aimv2VisionModel(
        transformers.Aimv2VisionConfig(
            hidden_size=sizes.width,
            intermediate_size=sizes.ffn_hidden,
            num_hidden_layers=sizes.depth,
            num_attention_heads=sizes.num_heads,
            image_size=config.image_px,
            patch_size=config.patch_px,
            use_head=False,
        )
    )
    for other, state in ((of_timm, timm_state(encoder)), (of_transformers, transformers_state(encoder))):
        other.load_state_dict(state, strict=True, assign=True)
        other.to(encoder.norm.weight.device).eval()  # for buffers that are no weights
    return {
        "ours": encoder,
        "timm": of_timm.forward_features,
        "transformers": lambda image: of_transformers(pixel_values=image).last_hidden_state,
    }


def timm_state(encoder: Encoder) -> dict[str, Tensor]:
    """Our weights under the names of timm's ``aimv2_*``."""
    ours = encoder.state_dict()
    state = {
        "patch_embed.proj.weight": ours["patch_embed.weight"],
        "patch_embed.proj.bias": ours["patch_embed.bias"],
        "patch_embed.norm.weight": ours["patch_norm.weight"],
        "pos_embed": ours["pos_embed"],
        "norm.weight": ours["norm.weight"],
    }
    for number in range(len(encoder.blocks)):
        stem = f"blocks.{number}"
        gate, up = ours[f"{stem}.ffn.gate_up.weight"].chunk(2)
        state |= {
            f"{stem}.norm1.weight": ours[f"{stem}.norm1.weight"],
            f"{stem}.norm2.weight": ours[f"{stem}.norm2.weight"],
            f"{stem}.attn.qkv.weight": ours[f"{stem}.attn.qkv.weight"],
            f"{stem}.attn.proj.weight": ours[f"{stem}.attn.out.weight"],
            f"{stem}.mlp.fc1_g.weight": gate,
            f"{stem}.mlp.fc1_x.weight": up,
            f"{stem}.mlp.fc2.weight": ours[f"{stem}.ffn.down.weight"],
        }
    return state


def transformers_state(encoder: Encoder) -> dict[str, Tensor]:
    """Our weights under the names of transformers' ``Aimv2VisionModel``."""
    ours = encoder.state_dict()
    state = {
        "embeddings.patch_embed.weight": ours["patch_embed.weight"],
        "embeddings.patch_embed.bias": ours["patch_embed.bias"],
        "embeddings.rms_norm.weight": ours["patch_norm.weight"],
        "embeddings.position_embedding.weight": ours["pos_embed"][0],
        "rms_norm.weight": ours["norm.weight"],
    }
    for number in range(len(encoder.blocks)):
        stem, theirs = f"blocks.{number}", f"encoder.layers.{number}"
        query, key, value = ours[f"{stem}.attn.qkv.weight"].chunk(3)
        gate, up = ours[f"{stem}.ffn.gate_up.weight"].chunk(2)
        state |= {
            f"{theirs}.rms_norm1.weight": ours[f"{stem}.norm1.weight"],
            f"{theirs}.rms_norm2.weight": ours[f"{stem}.norm2.weight"],
            f"{theirs}.attention.q_proj.weight": query,
            f"{theirs}.attention.k_proj.weight": key,
            f"{theirs}.attention.v_proj.weight": value,
            f"{theirs}.attention.out_proj.weight": ours[f"{stem}.attn.out.weight"],
            f"{theirs}.ffn.gate_proj.weight": gate,
            f"{theirs}.ffn.up_proj.weight": up,
            f"{theirs}.ffn.down_proj.weight": ours[f"{stem}.ffn.down.weight"],
        }
    return state


def require_same(encoders: Mapping[str, Callable[[Tensor], Tensor]], image: Tensor, tolerance: float) -> None:
    """Refuse to compare what is not the same function.

    Raises:
        RunFailedError: features differ from the first encoder's by more than the tolerance, relative to their norm.
    """
    (_, ours), *others = ((name, encode(image).float()) for name, encode in encoders.items())
    for name, theirs in others:
        error = float((theirs - ours).norm() / ours.norm())
        if not error <= tolerance:
            raise RunFailedError(
                "bug",
                f"features of {name} differ from ours by {error:.2g} of their norm, more than rounding's {tolerance:g}",
            )


def interleaved(
    calls: Mapping[str, Call],
    repeats: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    synchronise: Call | None = None,
    stretch_s: float = STRETCH_S,
) -> dict[str, np.ndarray]:
    """Seconds per call, float64 [R] each.

    In every repeat each call has its turn, and each time another one has the first, so that a machine that slows down
    does so for all alike.

    Args:
        synchronise: waits for the device; None where calls return when they are done.
        stretch_s: how long a turn lasts at least, by calling again and again.
    """

    def turn(name: str, num_calls: int) -> float:
        if synchronise is not None:
            synchronise()
        start = clock()
        for _ in range(num_calls):
            calls[name]()
        if synchronise is not None:
            synchronise()
        return (clock() - start) / num_calls

    names = list(calls)
    for name in names:
        turn(name, 1)  # the first call allocates, and may choose algorithms
    num_calls = {name: max(1, math.ceil(stretch_s / max(turn(name, 1), 1e-9))) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(turn(name, num_calls[name]))
    return {name: np.array(timings) for name, timings in seconds.items()}


def ratio(theirs_R: np.ndarray, ours_R: np.ndarray) -> Ratio:
    """Theirs over ours, repeat by repeat: the median and its interval by order statistics."""
    ratio_R = theirs_R / ours_R
    interval: Any = quantile_test(ratio_R, p=0.5).confidence_interval(0.95)  # scipy-stubs call it a float
    return Ratio(float(np.median(ratio_R)), float(interval.low), float(interval.high))


def table(seconds: Mapping[str, np.ndarray], config: RunConfig, batch_size: int, title: str) -> Table:
    """A row for each call: its median, how it compares with ours, and what of the matrix product's rate it reaches."""
    shown = Table("encoder", title=title)
    for column in ("ms / image", "theirs / ours", "95 %", "GFLOP/s", "of mm"):
        shown.add_column(column, justify="right")
    flops = dict.fromkeys(seconds, batch_size * encoder_cost(config).forward(1, 0))
    flops[PRODUCT] = 2 * math.prod(_product_shape(config, batch_size))
    rates = {name: flops[name] / float(np.median(seconds_R)) for name, seconds_R in seconds.items()}
    for name, seconds_R in seconds.items():
        speed = "" if name == PRODUCT else f"{1000 * np.median(seconds_R) / batch_size:.2f}"
        than_ours, interval = "", ""
        if name in _others(seconds):
            median, low, high = ratio(seconds_R, seconds["ours"])
            than_ours, interval = f"{median:.3f}", "" if math.isnan(low) else f"{low:.3f} – {high:.3f}"
        rate, share = f"{rates[name] / 1e9:,.0f}", f"{rates[name] / rates[PRODUCT]:.0%}"
        shown.add_row(name, speed, than_ours, interval, rate, share)
    return shown


def warnings(seconds: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence for each comparison that these timings do not settle."""
    repeats = len(seconds["ours"])
    return [
        f"warning: {name} / ours is not settled: its interval is wider than {WIDE:.0%} of the ratio, or unknown, after"
        f" {repeats} repeats; leave the machine alone, or take more (repeats={max(20, 2 * repeats)})"
        for name in _others(seconds)
        if ratio(seconds[name], seconds["ours"]).is_wide
    ]


def _others(seconds: Mapping[str, np.ndarray]) -> list[str]:
    return [name for name in seconds if name not in ("ours", PRODUCT)]


def _sentence(config: RunConfig, batch_size: int, repeats: int, device: str) -> str:
    """What was measured, and on what."""
    model, sizes = config.model, config.model.encoder
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm", "transformers"))
    rows, width, columns = _product_shape(config, batch_size)
    return (
        f"{hardware(device)}, {torch.get_num_threads()} threads, {versions}: depth {sizes.depth}, width {width},"
        f" {sizes.num_heads} heads, called on {batch_size} x 3 x {model.image_px} x {model.image_px} in patches of"
        f" {model.patch_px} px; medians of {repeats} interleaved repeats with one set of weights in the stated"
        f" precision; mm is the FFN's first product, [{rows} x {width}] x [{width} x {columns}]."
    )


def _product_shape(config: RunConfig, batch_size: int) -> tuple[int, int, int]:
    """Rows, inner size and columns of the FFN's first matrix product: B x I, D, and 2F for gate and up together."""
    encoder = config.model.encoder
    return batch_size * config.model.num_patches, encoder.width, 2 * encoder.ffn_hidden


def _device(asked: str) -> str:
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("device='cuda' and torch sees no CUDA device here; use device=cpu or device=auto")
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return asked


def _require_packages() -> None:
    for name in ("timm", "transformers"):
        try:
            import_module(name)
        except ImportError as error:
            raise UsageError(
                f"the benchmark compares with {name}, which cannot be imported ({error}); install it with"
                " pip install 'aimv2-ablations[dev]'"
            ) from error


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
