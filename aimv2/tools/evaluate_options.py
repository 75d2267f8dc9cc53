"""The options of ``python -m aimv2 evaluate``. Nothing here imports torch."""

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.typed import as_typed
from aimv2.config.data_config import CHECKED
from aimv2.config.evaluation_config import ProbeConfig
from aimv2.config.native import MAX_AREA, MIN_AREA
from aimv2.config.options import usage

SUMMARY = """Measure a frozen encoder on a labelled set in files. Features are computed once and saved in cache_dir.
docs/weights.md describes the methods."""

Method = Literal["probe", "linear", "knn", "zero_shot"]
METHODS: tuple[Method, ...] = get_args(Method)
FeatureKind = Literal["patches", "mean", "embedding"]

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ProbeOptions(ProbeConfig):
    """The attentive probe: by default exactly the paper's grid (Table A2)."""

    learning_rates: tuple[PositiveFloat, ...] = Field(
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
class LinearOptions:
    """Logistic regression."""

    l2: tuple[PositiveFloat, ...] = Field(
        default=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        min_length=1,
        description="strengths L of the linear probe's penalty L/2 |W|^2, added to the mean cross-entropy of N images;"
        " C of scikit-learn is 1 / (L N)",
        examples=["[1e-4,1e-2]"],
    )
    max_iterations: Positive = Field(default=100, description="Newton steps of a fit")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class NeighbourOptions:
    neighbours: tuple[Positive, ...] = Field(
        default=(1, 3, 5, 10, 20, 50, 100, 200),
        min_length=1,
        description="numbers of nearest neighbours; one is chosen on validation",
        examples=["[1,10,100]"],
    )


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
    area: Annotated[int, Field(ge=MIN_AREA, le=MAX_AREA)] | None = Field(
        default=None,
        description="show each image whole, in its own size and aspect ratio, in at most so many patches; for encoders"
        " with sin-cos positions, and all methods but probe",
        examples=[4096],
    )
    crop: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="share of the shorter side in the centre crop; 1 shows all of a square image; default: that of"
        " preprocessor_config.json beside the weights, else 0.875",
        examples=[0.875],
    )
    probe: ProbeOptions = ProbeOptions()
    linear: LinearOptions = LinearOptions()
    knn: NeighbourOptions = NeighbourOptions()
    cache_dir: str = Field(
        default="cache",
        description="where features are saved, in the subfolder features, and remote shards are copied to",
    )
    cache_gb: PositiveFloat = Field(default=100.0, description="limit for the copies of remote shards")
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

    def __post_init__(self) -> None:
        if self.area is not None and self.crop is not None:
            raise ValueError("area= shows each image whole and in its own size; remove crop=")


def evaluate_usage(arguments: Sequence[str] = ()) -> str:
    """Return the help of the command."""
    line = f"{as_typed('evaluate')} weights=PATH data=FILE.yaml [key=value ...]"
    return usage(line, SUMMARY, EvaluateOptions)
