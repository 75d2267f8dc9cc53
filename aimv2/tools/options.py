"""The options of ``cost``, ``data``, ``evaluate`` and ``weights``, and their help. Nothing here imports torch."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ByteSize, Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from aimv2.config.arguments import as_typed, usage
from aimv2.config.data_config import CHECKED
from aimv2.config.evaluation_config import ProbeConfig
from aimv2.run.options import RUN_VALUES

Method = Literal["probe", "linear", "knn", "zero_shot"]
METHODS: tuple[Method, ...] = get_args(Method)
FeatureKind = Literal["patches", "mean", "embedding"]
LayoutName = Literal["transformers", "ml-aim"]


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
    batch_size: PositiveInt = Field(default=64, description="images that the encoder reads at once")
    workers: int = Field(default=0, ge=0, description="processes that decode images")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu or cuda")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="float32 or bfloat16; auto is bfloat16 on CUDA"
    )
    seed: int = Field(default=0, ge=0, description="of the attentive probe's weights and batches")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class IndexOptions:
    workers: PositiveInt | None = Field(
        default=None, examples=["N"], description="processes that read (default: one for each core)"
    )
    audit: bool = Field(
        default=False,
        description="also report what cannot be used, copies and near copies, and images that training shares with"
        " held-out sides or evaluation sets; the findings are written to FILE.audit.json, and the keys of these"
        " training pairs to FILE.leaks.txt.",
    )
    num: PositiveInt = Field(
        default=100_000, description="samples that an audit reads of each side, a random sample if it has more"
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class WriteOptions:
    to: str | None = Field(default=None, examples=["FOLDER"], description="a new or empty folder")
    num: PositiveInt | None = Field(
        default=None, examples=[1000], description="pairs to write, a random sample of all (default: all)"
    )
    pairs_per_shard: PositiveInt = Field(default=4096, description="samples in a shard")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ShowOptions:
    to: str = Field(default="sheet.png", description="the picture to write; an existing one is replaced")
    step: NonNegativeInt = Field(default=0, description="the first training step")
    num: int = Field(default=16, gt=0, le=100, description="samples, from this step on")


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


# By command: the function, imported when it is called; its options, its arguments, what it does, and values of a run.
DATA_COMMANDS: dict[str, tuple[str, type, str, str, str]] = {
    "index": (
        "aimv2.tools.data_index:index_command",
        IndexOptions,
        "index FILE.yaml ...",
        "Index the data of descriptions. Files that have not changed since the last time are not read again.",
        "  data.max_pixels=67108864     of an audit: any data.* key of a run, as in train",
    ),
    "write": (
        "aimv2.tools.data_samples:write_command",
        WriteOptions,
        "write to=FOLDER",
        "Write pairs of any source as tar shards. They are in WebDataset's format and in random order, with a"
        " description that training reads and that holds out the same pairs. Each sample has an image, its short"
        " caption as txt, and json with both captions. Files keep their bytes; pictures that are drawn become PNG.",
        "  data.sources=[openmoji]      built-in sources, or the path of one description; other data.* as in train",
    ),
    "show": (
        "aimv2.tools.data_samples:show_command",
        ShowOptions,
        "show",
        "Draw samples of a run as training sees them. Of the crop, patches after the prefix are dimmed; the words of"
        " the caption are divided into tokens, and truncated words are underlined.",
        "  scale=demo                   any value of a run, as in train",
    ),
}
ACTIONS: dict[str, type[ImportOptions | ExportOptions]] = {"import": ImportOptions, "export": ExportOptions}


def cost_usage(arguments: Sequence[str] = ()) -> str:
    summary = (
        "Print parameters, FLOPs and activation memory of each part of a run, and how it is set up to fit the memory of"
        " its ranks, without training it."
    )
    return usage(f"{as_typed('cost')} [key=value ...]", summary, PlanOptions, RUN_VALUES)


def data_usage(arguments: Sequence[str] = ()) -> str:
    """Return the help of the command that is named first, or of all."""
    if not arguments or arguments[0] not in DATA_COMMANDS:
        lines = [f"  {line:28} {summary.partition('.')[0]}" for _, _, line, summary, _ in DATA_COMMANDS.values()]
        return "\n".join(
            [f"usage: {as_typed('data')} COMMAND [...]\n", *lines, "\n  COMMAND --help for its arguments\n"]
        )
    _, kind, line, summary, notes = DATA_COMMANDS[arguments[0]]
    return usage(f"{as_typed('data')} {line} [key=value ...]", summary, kind, notes)


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
