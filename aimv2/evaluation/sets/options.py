"""The options of ``python -m aimv2 evaluate``. Nothing here imports torch."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.arguments import key_values
from aimv2.config.data_config import CHECKED, DataConfig
from aimv2.config.evaluation_config import ProbeConfig
from aimv2.config.native import MAX_AREA, MIN_AREA

Method = Literal["probe", "linear", "knn", "zero_shot", "retrieval"]
METHODS: tuple[Method, ...] = get_args(Method)
Kind = Literal["patches", "mean", "embedding"]
NEEDS: dict[Method, Kind] = {
    "probe": "patches",
    "linear": "mean",
    "knn": "mean",
    "zero_shot": "embedding",
    "retrieval": "embedding",
}
MAX_PIXELS = DataConfig().max_pixels
CROP = 0.875

USAGE = f"""usage: python -m aimv2 evaluate weights=PATH data=FILE.yaml [key=value ...]
       python -m aimv2 evaluate --recipes

Measure a frozen encoder on a labelled set in files. Features are computed once and saved in cache_dir. --recipes lists
the sets of the paper's Table 3: what to put where, and the published accuracies. docs/evaluate.md describes the rest.
With several GPUs: torchrun --nproc-per-node 8 -m aimv2 evaluate weights=PATH data=FILE.yaml

  weights=PATH                 a finished run, a folder of `weights import`, or a public checkpoint (file or folder)
  data=FILE.yaml               the description of the set; index it first: python -m aimv2 data index FILE.yaml
  methods=[{",".join(METHODS)}]
                               default: all that the set and the weights have what it takes for
  to=evaluations               the result is written to FOLDER/SET-WEIGHTS.json

  image_px=336                 resample learned positions for this image size; default: that of the weights
  area=4096                    show each image whole, in its own size and aspect ratio, in at most so many patches; for
                               encoders with sin-cos positions, and all methods but probe
  crop=0.875                   share of the shorter side in the centre crop; 1 shows all of a square image
  tokenizer=PATH               tokenizer.json of a text encoder; default: the one in the folder of the weights
  probe.learning_rates=[1e-4,1e-3]  probe.weight_decays=[0.05,0.1]  probe.epochs=100  probe.batch_size=512
  probe.warmup_epochs=0  probe.head_dim=128
                               the attentive probe; default: the paper's grid (Table A2)
  linear.l2=[1e-4,1e-2]        strengths of the linear probe's penalty
  linear.max_iterations=100    Newton steps
  knn.neighbours=[1,10,100]    numbers of nearest neighbours; one is chosen on validation

  cache_dir=cache              where features are saved, in the subfolder features, and remote shards are copied to
  cache_gb=100                 limit for the copies of remote shards
  max_bad_rate=0.01            share of unusable images above which the evaluation stops
  max_pixels={MAX_PIXELS}          largest image to decode
  batch_size=64                images that the encoder reads at once
  workers=0                    processes that decode images, on each rank
  threads=2                    CPU threads; default: torch's
  device=auto                  auto, cpu or cuda
  precision=auto               float32 or bfloat16; auto is bfloat16 on CUDA
  seed=0                       of the attentive probe's weights and batches
  debug=true                   show the traceback of an error
"""

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ProbeOptions(ProbeConfig):
    """The attentive probe: by default exactly the paper's grid (Table A2)."""

    learning_rates: tuple[PositiveFloat, ...] = Field(default=(5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3), min_length=1)
    warmup_epochs: int = Field(default=0, ge=0)

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} must be less than epochs={self.epochs}")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LinearOptions:
    """Logistic regression.

    Attributes:
        l2: L of the penalty L/2 |W|^2, which is added to the mean cross-entropy of N images. C of scikit-learn is
            1 / (L N).
        max_iterations: Newton steps.
    """

    l2: tuple[PositiveFloat, ...] = Field(default=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1), min_length=1)
    max_iterations: Positive = 100


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class NeighbourOptions:
    """Numbers of nearest neighbours."""

    neighbours: tuple[Positive, ...] = Field(default=(1, 3, 5, 10, 20, 50, 100, 200), min_length=1)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Options:
    """The options, as USAGE describes them; None is the default described there."""

    weights: str
    data: str
    methods: tuple[Method, ...] | None = None
    to: str = "evaluations"
    image_px: Positive | None = None
    area: Annotated[int, Field(ge=MIN_AREA, le=MAX_AREA)] | None = None
    crop: float = Field(default=CROP, gt=0, le=1)
    tokenizer: str | None = None
    probe: ProbeOptions = ProbeOptions()
    linear: LinearOptions = LinearOptions()
    knn: NeighbourOptions = NeighbourOptions()
    cache_dir: str = "cache"
    cache_gb: PositiveFloat = 100.0
    max_bad_rate: float = Field(default=0.01, ge=0, le=1)
    max_pixels: Positive = MAX_PIXELS
    batch_size: Positive = 64
    workers: int = Field(default=0, ge=0)
    threads: Positive | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = Field(default=0, ge=0)

    def __post_init__(self) -> None:
        if self.area is not None and (self.image_px is not None or self.crop != CROP):
            raise ValueError("area= shows each image whole and in its own size; remove image_px= and crop=")


GROUPS = {"probe": ProbeOptions, "linear": LinearOptions, "knn": NeighbourOptions}


def given_values(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse ``key=value`` arguments into nested values.

    Raises:
        UsageError: an argument has another form, or a key is unknown, given twice or missing.
    """
    plain = [field.name for field in dataclasses.fields(Options) if field.name not in GROUPS]
    grouped = [f"{group}.{field.name}" for group, kind in GROUPS.items() for field in dataclasses.fields(kind)]
    values: dict[str, Any] = {}
    for key, text in key_values(arguments, [*plain, *grouped]).items():
        group, _, name = key.rpartition(".")
        owner = values.setdefault(group, {}) if group else values
        owner[name] = _listed(key, text) if text.startswith("[") else text
    needed = {"weights": "weights=PATH", "data": "data=FILE.yaml"}
    if missing := [shown for key, shown in needed.items() if key not in values]:
        raise UsageError(f"evaluate needs {' and '.join(missing)}")
    return values


def checked_options(values: Mapping[str, Any]) -> Options:
    """Build the options from nested values.

    Raises:
        UsageError: a value is not allowed.
    """
    try:
        options: Options = TypeAdapter(Options).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        seen = "" if first["type"] in ("value_error", "missing") else f" (got {first['input']!r})"
        raise UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}{seen}") from error
    return options


def _listed(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{key}={text} is not a list such as [1,2]") from error
