"""Time the encoder beside two other implementations, interleaved in one process.

Letters: B images, I patches, D encoder width, F FFN hidden, R repeats.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import Annotated, Any, Literal

import numpy as np
import torch
from benchmarks.timing import interleaved, ratio, read_options, uncertain
from pydantic import Field, PositiveInt
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.benchmark import timer

from aimv2.base.errors import RunFailedError, UsageError, unknown
from aimv2.base.hardware import hardware
from aimv2.config.arguments import HELP
from aimv2.config.model_config import ModelConfig
from aimv2.config.recipes.scales import SCALES
from aimv2.config.run_config import RunConfig
from aimv2.cost.modules import encoder_cost
from aimv2.cost.parts import forward_flops
from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from aimv2.request.resolve import with_attention
from aimv2.tools.weights.contents import Source, WeightsConfig
from aimv2.tools.weights.names import TIMM, TRANSFORMERS
from aimv2.tools.weights.tensors import to_theirs
from aimv2.tools.weights.timm import Timm
from aimv2.tools.weights.transformers import VisionModel
from aimv2.training.rate import product_shape

Precision = Literal["float32", "bfloat16"]
PRECISIONS: Mapping[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # relative difference of features that count as equal
CUDA_BATCH = 32
PRODUCT = "torch.mm"

FOOTNOTE = (
    "theirs / ours: the median over repeats of the ratio of their timing to ours, and its 95 % interval by order"
    " statistics."
)
USAGE = f"""usage: python -m aimv2 bench encoder [key=value ...]

Time the encoder beside timm's and transformers' with the same weights, interleaved in one process, after checking that
their features agree.

  scale=vit_l                  scale of the encoder ({", ".join(SCALES)})
  depth=24                     number of blocks; the default is the scale's
  repeats=10                   timings of each encoder; an interval needs 6
  batch_size=1                 images per call; the default is 1 on the CPU and {CUDA_BATCH} on CUDA
  threads=2                    CPU threads; the default is all cores
  device=auto                  auto, cpu or cuda
  debug=true                   show the traceback of an error
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of ``bench encoder``, as USAGE describes them; None is the default described there."""

    scale: str = "vit_l"
    batch_size: PositiveInt | None = None
    repeats: Annotated[int, Field(ge=2)] = 10
    threads: PositiveInt | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    depth: PositiveInt | None = None


def encoder_command(arguments: Sequence[str]) -> int:
    """Run ``bench encoder [key=value ...]`` and print the timings.

    Raises:
        UsageError: the arguments cannot be read, or a package to compare with is missing.
        RunFailedError: the implementations compute different features.
    """
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    options = read_options(Options, arguments)
    config = encoder_config(options)
    has_cuda = torch.cuda.is_available()
    if options.device == "cuda" and not has_cuda:
        raise UsageError("device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto")
    device = "cuda" if has_cuda and options.device != "cpu" else "cpu"
    batch_size = options.batch_size or (CUDA_BATCH if device == "cuda" else 1)
    before = torch.get_num_threads()
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(options.threads or num_cores)
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


def encoder_config(options: Options) -> RunConfig:
    """Return the recipe, with the depth of the options.

    Raises:
        UsageError: the recipe is unknown.
    """
    if options.scale not in SCALES:
        raise unknown("scale", options.scale, SCALES)
    config = with_attention(SCALES[options.scale]())
    encoder = replace(config.model.encoder, depth=options.depth or config.model.encoder.depth)
    return replace(config, model=replace(config.model, encoder=encoder))


def measure(
    config: RunConfig, precision: Precision, *, batch_size: int, repeats: int, device: str
) -> dict[str, np.ndarray]:
    """Time the three encoders and the FFN's matrix product: seconds per call, float64 [R] each.

    Weights and activations have the given precision, and the three encoders share one set of weights.

    Raises:
        RunFailedError: the features differ.
    """
    model = config.model
    generator = torch.Generator().manual_seed(0)
    encoder = Encoder(model).eval()
    init_weights_(encoder, seed=0)
    encoder.to(device, PRECISIONS[precision])
    image = torch.randn(batch_size, 3, model.image_px, model.image_px, generator=generator).to(encoder.norm.weight)
    encoders = implementations(encoder, model)
    calls = {name: partial(encode, image) for name, encode in encoders.items()}
    rows, width, columns = product_shape(config, batch_size)
    left = torch.randn(rows, width, generator=generator).to(image)
    right = torch.randn(columns, width, generator=generator).to(image).T  # as in a linear layer
    calls[PRODUCT] = partial(torch.mm, left, right)
    # Not earlier: with weights made in inference mode, torch.matmul takes a slower path for some layouts of its input.
    with torch.inference_mode():
        require_same(encoders, image, TOLERANCE[precision])
        return interleaved(calls, repeats, clock=timer)


def implementations(encoder: Encoder, config: ModelConfig) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return functions from images to features: ours, timm's and transformers', with the same weights (no copies).

    Raises:
        UsageError: a package cannot be imported.
    """
    try:
        import timm
        import transformers
    except ImportError as error:
        raise UsageError(
            f"the benchmark compares with timm and transformers, but: {error}; install them with:"
            " pip install 'aimv2-ablations[dev]'"
        ) from error
    sizes = WeightsConfig(
        source=Source(layout="run", file="benchmark", dtypes=()),
        image_px=config.image_px,
        patch_px=config.patch_px,
        patch_order=config.patch_order,
        encoder=config.encoder,
    )
    for_timm, for_transformers = Timm().description(sizes), VisionModel().description(sizes)
    of_timm: Any = timm.create_model(for_timm["architecture"], **for_timm["model_args"])
    of_transformers: Any = transformers.Aimv2VisionModel(transformers.Aimv2VisionConfig(**for_transformers))
    ours = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    for other, names in ((of_timm, TIMM), (of_transformers, TRANSFORMERS)):
        other.load_state_dict(to_theirs(ours, names), strict=True, assign=True)
        other.to(encoder.norm.weight.device).eval()  # buffers are not in the state
    return {
        "ours": encoder,
        "timm": of_timm.forward_features,
        "transformers": lambda image: of_transformers(pixel_values=image).last_hidden_state,
    }


def require_same(encoders: Mapping[str, Callable[[Tensor], Tensor]], image: Tensor, tolerance: float) -> None:
    """Refuse to compare encoders that compute different functions.

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


def table(seconds: Mapping[str, np.ndarray], config: RunConfig, batch_size: int, title: str) -> Table:
    """Return a row per call: its median, its ratio to ours, its rate, and that as a share of the matrix product's."""
    shown = Table("encoder", title=title)
    for column in ("ms / image", "theirs / ours", "95 %", "GFLOP/s", "of mm"):
        shown.add_column(column, justify="right")
    flops = dict[str, float].fromkeys(seconds, forward_flops([encoder_cost(config)], batch_size, 0))
    flops[PRODUCT] = 2 * math.prod(product_shape(config, batch_size))
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
    """Return a sentence for each encoder whose ratio to ours is uncertain."""
    return [
        warning for name in _others(seconds) if (warning := uncertain(name, seconds[name], seconds["ours"])) is not None
    ]


def _others(seconds: Mapping[str, np.ndarray]) -> list[str]:
    return [name for name in seconds if name not in ("ours", PRODUCT)]


def _sentence(config: RunConfig, batch_size: int, repeats: int, device: str) -> str:
    """Describe the machine, the versions and the sizes."""
    model, sizes = config.model, config.model.encoder
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "timm", "transformers"))
    rows, width, columns = product_shape(config, batch_size)
    return (
        f"{hardware(device)}, {torch.get_num_threads()} threads, {versions}: depth {sizes.depth}, width {width},"
        f" {sizes.num_heads} heads, called on {batch_size} x 3 x {model.image_px} x {model.image_px} in patches of"
        f" {model.patch_px} px; medians of {repeats} interleaved repeats with one set of weights in the stated"
        f" precision; mm is the FFN's first product, [{rows} x {width}] x [{width} x {columns}]."
    )
