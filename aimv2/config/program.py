"""A program: the values of a run, its name, and what the ledger, sweeps and statistics read of them.

``RunConfig`` is the program of AIMv2. Those of other models are in plug-ins (docs/another-model.md). What is done with
a run is in the layers that do it: ``aimv2.run.programs`` executes either.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from aimv2.base.errors import UsageError, unknown
from aimv2.base.plugins import Registry
from aimv2.config.training_config import LogConfig

KIND = "program"  # the key of a stored config that names its program; AIMv2's has none
SIGNATURE_VERSION = 2  # of names


@dataclass(frozen=True, kw_only=True)
class Program:
    """A run of a model: a frozen dataclass whose fields say all that it computes.

    A subclass in a plug-in has fields of its own and ``measure``. The rest has defaults, for a model that trains in one
    process on the CPU. Whatever changes a result must be a field: runs with equal fields of an equal plug-in are one.

    Attributes:
        seed: of the run. Arms with the same seed are paired.
        kind: the name under which it was added; empty for AIMv2.
        metrics: the names of the metrics with which it was added.
    """

    seed: int = 0
    kind: ClassVar[str] = ""
    metrics: ClassVar[tuple[str, ...]] = ()

    def measure(self, run: Any) -> Mapping[str, Any]:
        """Train and evaluate the model, and return its final metrics.

        Args:
            run: the ``Recorder`` of the attempt: takes rows of metrics on the way, and ends an interrupted run.

        Returns:
            by the names of the program's metrics: a number, or the parts of a ratio of sums over evaluation items.
        """
        raise NotImplementedError(f"{type(self).__name__} has no measure()")

    # What names it.

    @property
    def name(self) -> str:
        """The name of the run: a hash of its values, and of the plug-in that defines it."""
        plugin = PROGRAMS.plugin_of(self.kind)
        identity = self.to_dict() | {"plugin": "" if plugin is None else plugin.digest}
        return run_name(identity)

    @property
    def plugins(self) -> Mapping[str, str]:
        """The plug-ins (``name@digest``) of what the run uses."""
        plugin = PROGRAMS.plugin_of(self.kind)
        return {} if plugin is None else {KIND: plugin.id}

    @property
    def label(self) -> str:
        """What reports call the base run, and the end of the names of their folders."""
        return self.kind

    @property
    def identity(self) -> Mapping[str, Any]:
        """The values that name the run, by path."""
        return flattened(self.to_dict())

    @property
    def has_files(self) -> bool:
        """True if it reads data in files, whose content is part of what it is."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return the values as nested dicts of JSON values, with the program's kind."""
        values: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return {KIND: self.kind} | values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the program with these values, as ``to_dict`` returns them.

        Raises:
            UsageError: an unknown key or an invalid value.
        """
        own = {key: value for key, value in values.items() if key != KIND}
        names = [field.name for field in dataclasses.fields(cls)]
        for key in own.keys() - set(names):
            raise unknown("key", key, names)
        try:
            return TypeAdapter(cls).validate_python(own)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(f"{where or cls.kind}: {first['msg'].removeprefix('Value error, ')}") from error

    def with_seed(self, seed: int) -> Self:
        """Return the same run with another seed."""
        return dataclasses.replace(self, seed=seed)

    # What it takes.

    @property
    def num_samples(self) -> int:
        """The training samples, by which progress is shown and long runs start first; 0 of an untrained model."""
        return 1

    @property
    def threads(self) -> int:
        """The CPU threads of each rank."""
        return 1

    @property
    def ranks(self) -> int:
        """The processes that do the run together."""
        return 1

    @property
    def ranks_per_node(self) -> int:
        return self.ranks

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``, resolved before it is used."""
        return "cpu"

    @property
    def precision(self) -> str:
        return ""

    @property
    def loaders(self) -> int | None:
        """The loader processes of each rank; None if they share the cores that a GPU's training leaves."""
        return 0

    @property
    def memory_bytes(self) -> int:
        """The memory that the run takes."""
        return 10**9

    @property
    def train_flops(self) -> int:
        """The training FLOPs, if they are known; else 0."""
        return 0

    @property
    def weights_bytes(self) -> int:
        """The bytes of files that the finished run keeps."""
        return 0

    @property
    def cache_dir(self) -> Path:
        """A folder for times of earlier runs, and for what runs share."""
        return Path("cache")

    @property
    def log(self) -> LogConfig:
        return LogConfig()

    @property
    def title(self) -> str:
        """What displays call the run if it is of no study."""
        return self.kind

    @property
    def starts_from_files(self) -> bool:
        """True if it needs weights that are in files, which records do not have."""
        return False

    def with_cache_dir(self, path: str) -> Self:
        """Return the run with another cache folder, if that is one of its values."""
        return self

    def without_places(self) -> Self:
        """Return the run of the same name with no path of a machine, and no tracker."""
        return self

    # How it is done.

    def check(self) -> None:
        """Refuse values that cannot be executed.

        Raises:
            UsageError: naming the value and what is allowed.
        """

    @property
    def curve_steps(self) -> Sequence[int]:
        """The steps after which a point of the held-out curve is measured; none if there is no curve."""
        return ()

    def without_training(self) -> Self:
        """Return a run that costs what the evaluation of given weights costs."""
        return self

    # What studies compare, and reports say.

    @property
    def split(self) -> str:
        """The name of the held-out data on which the final metrics are measured."""
        return "test"

    def with_shuffled_targets(self) -> Self | None:
        """Return the run with targets that belong to other inputs, which must be worse (the positive control).

        Returns:
            None if there is none; a study of such a program has ``controls=("null_control",)``.
        """
        return None

    def untrained(self) -> Self | None:
        """Return the run that measures the model before training, for programs that compare with it."""
        return None

    def initial(self) -> str:
        """Return a hash of what the model is before training and of how it is measured, whatever the seed."""
        return ""

    def flops_per_sample(self) -> float:
        """Return the training FLOPs of a sample, to which studies at equal FLOPs match samples; 0 if unknown."""
        return 0.0

    def with_samples(self, samples: float) -> Self:
        """Return the run with so many training samples, in whole batches."""
        raise UsageError(f"sweep.equal=flops is not possible: runs of {self.kind} cannot be given other samples")


Run = TypeVar("Run", bound=Program)
PROGRAMS: Registry[type[Program]] = Registry("program")


def digest_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of values that JSON can hold, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def run_name(identity: Mapping[str, Any]) -> str:
    """Return the name of the run that these values name."""
    return f"v{SIGNATURE_VERSION}-{digest_of(identity)[:12]}"


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts: ``{"model": {"image_px": 32}}`` becomes ``{"model.image_px": 32}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


PARAMETERS = "prefix.parameters."  # paths of the parameters of a plug-in's distribution


def replaced(config: Run, values: Mapping[str, Any]) -> Run:
    """Return the run with some of its values replaced together, because single ones may contradict the others."""
    changed = dict(vars(config))
    for path, value in values.items():
        *groups, name = path.split(".")
        owner: Any = changed
        for group in groups:
            part = owner.setdefault(group, {})
            if dataclasses.is_dataclass(part):  # parts without a change stay as they are: they are checked already
                owner[group] = dict(vars(part))
            elif isinstance(part, dict):  # a copy, since it may be that of the run
                owner[group] = dict(part)
            else:
                raise unknown("key", path, flattened(config.to_dict()))
            owner = owner[group]
        owner[name] = dict(value) if isinstance(value, Mapping) else value
    return config.from_dict(changed)


def value_at(config: Program, path: str) -> Any:
    """Return the value, or the part, at a path that exists; None for a parameter that is not given."""
    if path.startswith(PARAMETERS):
        return attrgetter(PARAMETERS.removesuffix("."))(config).get(path.removeprefix(PARAMETERS))
    return attrgetter(path)(config)


def differences(config: Program, other: Program) -> dict[str, Any]:
    """Return the values of the first run, by path, that differ from the second's."""
    others = flattened(other.to_dict())
    return {path: value for path, value in flattened(config.to_dict()).items() if value != others.get(path)}
