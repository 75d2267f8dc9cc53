"""The options of ``cost``, ``evaluate`` and ``weights``, and their help. Nothing here imports torch."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ByteSize, Field
from pydantic.dataclasses import dataclass

from aimv2.config.arguments import as_typed, usage
from aimv2.config.data_config import CHECKED
from aimv2.config.evaluation_config import ProbeConfig
from aimv2.run.options import RUN_VALUES

Method = Literal["probe", "linear", "knn", "zero_shot"]
METHODS: tuple[Method, ...] = get_args(Method)
FeatureKind = Literal["patches", "mean", "embedding"]
LayoutName = Literal["transformers", "ml-aim"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
Positive = Annotated[int, Field(gt=0)]


def _listed(value: Any) -> Any:
    """Read numbers with commas too, because ``ranks=2`` of a run is typed like this."""
    return value.split(",") if isinstance(value, str) else value


def _with_unit(value: Any) -> Any:
    """Refuse bytes, which nobody means."""
    if isinstance(value, str) and not re.fullmatch(r"0*[1-9][\d.]*\s*[MG]i?B", value.strip()):
        raise ValueError(f"gpu={value}: write the memory of a GPU as a number with one of MB, GB, GiB, like 80GB")
    return value


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PlanOptions:
    """What a run is planned for."""

    ranks: Annotated[tuple[Annotated[int, Field(gt=0)], ...], BeforeValidator(_listed)] = Field(
        default=(1,), min_length=1, description="numbers of ranks, a column each", examples=["1,8,64"]
    )
    gpu: Annotated[ByteSize | None, BeforeValidator(_with_unit)] = Field(
        default=None,
        description="memory of each rank's GPU (MB, GB, GiB); by default that of this machine's device",
        examples=["80GB"],
    )
    rate: float | None = Field(
        default=None,
        gt=0,
        description="TFLOP/s that each rank is assumed to compute, from which the hours follow",
        examples=[400],
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ProbeOptions(ProbeConfig):
    """The attentive probe: by default exactly the paper's grid (Table A2)."""

    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3),
        min_length=1,
        description="of the attentive probe; default: the paper's grid (Table A2)",
        examples=["[1e-4,1e-3]"],
    )
    warmup_epochs: int = Field(
        default=0, ge=0, description="in which the learning rate rises; 5 for ImageNet in Table A2"
    )

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} must be less than epochs={self.epochs}")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EvaluateOptions:
    weights: str = Field(
        description="a finished run, a folder of `weights import`, or a public checkpoint (file or folder)",
        examples=["PATH"],
    )
    data: str = Field(
        description="the description of the set; index it first: python -m aimv2 data index FILE.yaml",
        examples=["FILE.yaml"],
    )
    methods: tuple[Method, ...] | None = Field(
        default=None,
        description="default: all that the set and the weights have what it takes for",
        examples=[f"[{','.join(METHODS)}]"],
    )
    to: str = Field(default="evaluations", description="the result is written to FOLDER/SET-WEIGHTS-METHODS.json")
    crop: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="share of the shorter side in the centre crop; 1 shows all of a square image; default: that of"
        " preprocessor_config.json beside the weights, else 0.875",
        examples=[0.875],
    )
    probe: ProbeOptions = ProbeOptions()
    cache_dir: str = Field(
        default="cache",
        description="where features are saved, in the subfolder features, and remote shards are copied to",
    )
    cache_gb: float = Field(default=100.0, gt=0, description="limit for the copies of remote shards")
    max_bad_rate: float = Field(
        default=0.01, ge=0, le=1, description="share of unusable images above which the evaluation stops"
    )
    batch_size: Positive = Field(default=64, description="images that the encoder reads at once")
    workers: int = Field(default=0, ge=0, description="processes that decode images")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu or cuda")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="float32 or bfloat16; auto is bfloat16 on CUDA"
    )
    seed: int = Field(default=0, ge=0, description="of the attentive probe's weights and batches")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ImportOptions:
    """Read published weights, and write them in our layout."""

    source: str = Field(alias="from", description="published weights, a file or a folder", examples=["PATH"])
    to: str = Field(description="a new folder", examples=["FOLDER"])


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ExportOptions:
    """Write weights that other packages load; of a run also a model card, README.md."""

    source: str = Field(
        alias="from", description="a folder of: weights import, or of a finished run", examples=["PATH"]
    )
    to: str = Field(description="a new folder", examples=["FOLDER"])
    layout: LayoutName = Field(default="transformers", description="transformers or ml-aim")


ACTIONS: dict[str, type[ImportOptions | ExportOptions]] = {"import": ImportOptions, "export": ExportOptions}


def cost_usage(arguments: Sequence[str] = ()) -> str:
    summary = (
        "Print parameters, FLOPs and activation memory of each part of a run, and how it is set up to fit the memory of"
        " its ranks, without training it."
    )
    return usage(f"{as_typed('cost')} [key=value ...]", summary, PlanOptions, RUN_VALUES)


def evaluate_usage(arguments: Sequence[str] = ()) -> str:
    summary = (
        "Measure a frozen encoder on a labelled set in files. Features are computed once and saved in cache_dir."
        " docs/weights.md describes the methods."
    )
    return usage(f"{as_typed('evaluate')} weights=PATH data=FILE.yaml [key=value ...]", summary, EvaluateOptions)


def weights_usage(arguments: Sequence[str] = ()) -> str:
    """Return the help of the action that is named first, or of all."""
    named = {name: ACTIONS[name] for name in arguments[:1] if name in ACTIONS} or ACTIONS
    line = f"{as_typed('weights')} {{}} from=PATH to=FOLDER [key=value ...]"
    return "\n".join(usage(line.format(name), kind.__doc__ or "", kind) for name, kind in named.items())
