"""Descriptions of data in files: small YAML files that say where samples are, and which field is which caption."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.base.files import read_yaml
from aimv2.config.arguments import checked
from aimv2.config.data_config import CHECKED, is_described
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind

IMAGES = ("jpg", "jpeg", "png", "webp")
SPLITS = ("train", "validation", "test")
REFUSED = (".pyd", ".pickle", ".pkl", ".pth", ".pt", ".npy", ".npz")  # members that unpickling readers decode
INDEX_SUFFIX = ".index"
PIPE = "pipe:"  # webdataset runs what follows in a shell
# Options of fsspec's file systems. Descriptions may come from elsewhere, so none can send a key or a token to a host of
# its own; to an ``endpoint_url`` of S3 requests are signed, and the secret key stays here.
OPTIONS = {
    "s3": ("anon", "endpoint_url", "profile", "requester_pays"),
    **dict.fromkeys(("gs", "gcs"), ("project", "requester_pays", "token")),
}
ANONYMOUS = "anon"
WEB = ("http://", "https://")
NO_PATH = re.compile(f"{PIPE}|.*://")

Fields = dict[str, Annotated[float, Field(gt=0)]]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Filter:
    """A condition on a field. Samples without the field do not meet it."""

    min: float | None = None
    max: float | None = None
    any_of: tuple[str | int | float | bool, ...] | None = None

    def __post_init__(self) -> None:
        if self.min is None and self.max is None and self.any_of is None:
            raise ValueError("a filter needs min, max or any_of")
        if self.any_of == ():
            raise ValueError("any_of is empty")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min={self.min:g} is larger than max={self.max:g}")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Location:
    """Where samples are, in shards or in a folder; docs/data.md has a table of all keys."""

    shards: tuple[str, ...] = ()  # tar files: paths, patterns (``{00000..00331}``, ``*``) or URLs
    folder: str | None = None
    table: str | None = None  # with ``folder``: only its rows are samples
    image: str | None = None  # the member or the column; default: ``IMAGES``, before these ``image`` in a table
    filters: dict[str, Filter] = dataclasses.field(default_factory=dict)
    exclude: str | None = None
    storage_options: dict[str, str | bool] = dataclasses.field(default_factory=dict)
    index: str | None = None

    def __post_init__(self) -> None:
        if bool(self.shards) == bool(self.folder):
            raise ValueError(
                f"exactly one of shards, folder is needed, and {'both are' if self.folder else 'none is'} given"
            )
        if self.table and not self.folder:
            raise ValueError("table needs folder")
        if any(name.startswith(PIPE) for name in self.shards):
            raise ValueError("shards: a pipe is refused, because it executes a command; copy the data to files")
        for name in (self.image, *self.filters):
            _check_field(name)
        _check_options(self.shards, self.storage_options)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Transforms:
    """Values of ``augment`` that hold for one source, whatever the run has."""

    min_scale: float | None = Field(default=None, gt=0, le=1)
    max_scale: float | None = Field(default=None, gt=0, le=1)
    min_ratio: float | None = Field(default=None, gt=0)
    max_ratio: float | None = Field(default=None, gt=0)
    flip_probability: float | None = Field(default=None, ge=0, le=1)

    @property
    def given(self) -> dict[str, float]:
        """The values that are given, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class HeldOutRule:
    """The samples that training does not show, by exactly one rule."""

    fraction: float | None = Field(default=None, gt=0, lt=1)  # of the keys, chosen by their hash
    field: str | None = None  # samples whose field has one of the values
    values: tuple[str | int | bool, ...] = ()

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.field is None) or bool(self.field) != bool(self.values):
            raise ValueError("needs either fraction, or field with values")
        _check_field(self.field)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SourceDescription(Location):
    """A source of image-text pairs. Its name in reports and run names is that of its file."""

    short: Fields = dataclasses.field(default_factory=dict)  # alt-text, by the probability of each field
    dense: Fields = dataclasses.field(default_factory=dict)  # synthetic or detailed captions
    questions: str | None = None
    held_out: HeldOutRule | None = None
    transforms: Transforms = Transforms()
    licence: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.short and not self.dense:
            raise ValueError("short or dense must name the field of the captions, such as txt or json.caption")
        for name in (*self.short, *self.dense, self.questions):
            _check_field(name)

    def splits(self) -> list[tuple[str, Location]]:
        """Return the only location, without a name; a labelled set has one for each split."""
        return [("", self)]

    @property
    def kinds(self) -> tuple[CaptionKind, ...]:
        """The kinds of captions that there are."""
        return tuple(kind for kind in CAPTION_KINDS if getattr(self, kind))


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LabelledDescription:
    """A labelled set for evaluation."""

    train: Location | None = None
    test: Location
    validation: Location | None = None  # where settings are chosen; default: a fifth of ``train``, by the key's hash
    name: str = ""
    label: str = Field(min_length=1)  # field of the class; ``folder`` is the name of the folder that contains an image
    # For zero-shot classification: names of classes by label, by default the labels themselves, and sentences with
    # ``{}`` in the place of the class.
    classes: dict[str, str] = dataclasses.field(default_factory=dict)
    prompts: tuple[str, ...] = ("a photo of a {}",)
    licence: str = ""

    def __post_init__(self) -> None:
        for prompt in self.prompts:
            if prompt.count("{}") != 1:
                raise ValueError(f"prompts: {prompt!r} must contain {{}} once")
        indices = [place.index for place in (self.train, self.test, self.validation) if place and place.index]
        if len(set(indices)) < len(indices):
            raise ValueError("train, test and validation need an index each, at different paths")

    def splits(self) -> list[tuple[str, Location]]:
        """Return the splits that there are, with their names."""
        return [(split, place) for split in SPLITS if (place := getattr(self, split)) is not None]


def read_description(path: Path | str) -> SourceDescription | LabelledDescription:
    """Read the description of a source, or of a labelled set if it has splits.

    A UsageError if it is missing or not YAML, or a key or value is not allowed.
    """
    path = Path(path).expanduser()
    values = read_yaml(path)
    return _labelled(path, values) if any(split in values for split in SPLITS) else _source(path, values)


def read_source(path: Path | str) -> SourceDescription:
    """Read the description of a source, as ``read_description`` does, and refuse that of a labelled set."""
    path = Path(path).expanduser()
    return _source(path, read_yaml(path))


def read_labelled(path: Path | str) -> LabelledDescription:
    """Read the description of a labelled set, as ``read_description`` does, and refuse that of a source."""
    path = Path(path).expanduser()
    return _labelled(path, read_yaml(path))


def _source(path: Path, values: dict[str, Any]) -> SourceDescription:
    for key in ("short", "dense"):  # one name, or a list of names, has equal probabilities
        names = [values[key]] if isinstance(values.get(key), str) else values.get(key)
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            names = dict.fromkeys(names, 1.0)
        values[key] = {} if names is None else names
    described: SourceDescription = checked(str(path), SourceDescription, _located(path, values))
    return described


def _labelled(path: Path, values: dict[str, Any]) -> LabelledDescription:
    if isinstance(values.get("classes"), dict):
        values["classes"] = {str(label): name for label, name in values["classes"].items()}  # YAML reads 0 as a number
    for key in SPLITS:
        if isinstance(values.get(key), dict):
            index = values[key].get("index") or f"{path.stem}-{key}{INDEX_SUFFIX}"
            values[key] = _located(path, values[key] | {"index": index})
    described: LabelledDescription = checked(str(path), LabelledDescription, values)
    return described if described.name else dataclasses.replace(described, name=path.stem)


def _located(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with a list of shards, and paths made absolute from the description's folder."""
    if removed := {"parquet", "dataset"} & values.keys():
        raise UsageError(
            f"{path}: {removed.pop()!r} is no key; pack images inside such files into shards (docs/data.md)"
        )
    located = dict(values)
    if isinstance(located.get("shards"), str):
        located["shards"] = [located["shards"]]
    options = located.get("storage_options") or {}
    if not isinstance(options, dict) or not all(isinstance(value, str | bool) for value in options.values()):
        # Not shown, since it may be a secret.
        raise UsageError(f"{path}: storage_options: text, true or false by name is needed, such as {{anon: true}}")
    located.setdefault("index", f"{path.stem}{INDEX_SUFFIX}")
    base = path.absolute().parent
    for key in ("folder", "table", "exclude", "index"):
        if isinstance(located.get(key), str):
            located[key] = str(base / Path(located[key]).expanduser())
    if isinstance(located.get("shards"), list):
        located["shards"] = [
            str(base / Path(name).expanduser()) if isinstance(name, str) and not NO_PATH.match(name) else name
            for name in located["shards"]
        ]
    return located


def _check_options(shards: tuple[str, ...], options: dict[str, str | bool]) -> None:
    """Raise a ValueError for an option that no protocol of the shards has, or that could be a secret."""
    protocols = sorted({name.partition("://")[0] for name in shards if "://" in name})
    options_of = [OPTIONS.get(protocol, ()) for protocol in protocols] or [()]
    allowed = [option for option in options_of[0] if all(option in names for names in options_of)]
    if others := options.keys() - set(allowed):
        what = f"for {', '.join(protocols)}:// are {', '.join(allowed) or 'none'}" if protocols else "is none for files"
        raise ValueError(
            f"storage_options: {', '.join(sorted(others))} is not allowed; allowed {what}. Keys and tokens come from"
            " the environment"
        )
    if not str(endpoint := options.get("endpoint_url", WEB[0])).startswith(WEB):
        raise ValueError(f"storage_options: endpoint_url={endpoint!r} must start with {' or '.join(WEB)}")
    if options.get("token", ANONYMOUS) != ANONYMOUS:
        raise ValueError(f"storage_options: token can only be {ANONYMOUS}; others come from the environment")


def _check_field(name: str | None) -> None:
    if name is not None and not name.startswith("json.") and f".{name}".endswith(REFUSED):
        raise ValueError(f"the member {name!r} is refused, because reading it can execute code")


def descriptions_of(config: RunConfig) -> list[str]:
    """Return the descriptions of a run's sources and labelled sets in files."""
    return [*filter(is_described, config.data.sources), *config.evaluation.sets]
