"""The config of one run: frozen dataclasses, checked on construction. Each part states the paper's values."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError, short
from aimv2.config.arguments import explain
from aimv2.config.data_config import CHECKED, AugmentConfig, DataConfig
from aimv2.config.evaluation_config import EvaluationConfig
from aimv2.config.model_config import ModelConfig
from aimv2.config.prefix import Frozen, PrefixDistribution
from aimv2.config.program import KIND, PROGRAMS, Program, digest_of, replaced, run_name
from aimv2.config.signature import LAW, NOT_OF_INITIAL_ENCODER, identity
from aimv2.config.training_config import (
    BudgetConfig,
    CheckpointConfig,
    LoaderConfig,
    LogConfig,
    NativeConfig,
    ObjectiveConfig,
    OptimizerConfig,
    StartConfig,
)

# Fields that older versions had, and stored configs still name; those of DECIDING parts decided what a run computes.
REMOVED = {
    "log": ("mlflow", "trackio", "wandb", "picture_points"),
    "checkpoint": ("watchdog_factor",),
    "start": ("teacher", "teacher_fingerprint", "teacher_encoder"),
    "evaluation": ("alone",),
}
DECIDING = ("start", "evaluation")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RunConfig(Program):
    """One run of AIMv2.

    Attributes:
        scale: recipe that the config started from; only a label.
        precision: precision of matrix products; ``auto`` is bfloat16 autocast on CUDA and float32 elsewhere. ``tf32``
            is float32 whose products round their factors to 10 bits, on the tensor cores of a GPU.
        residual: precision of the residual streams; ``bfloat16``, where products are bfloat16, halves what
            checkpointing saves, and the traffic of compiled blocks.
        device: ``auto`` is CUDA if available, else the CPU.
        threads: CPU threads of each rank. Part of the run's name, because it changes the order of sums.
        ranks: processes that train the run together, each on an equal share of every batch; rank 0 starts the others,
            unless a launcher (torchrun, submitit) has. Losses and gradients are those of the whole batch. Part of the
            name like ``threads``.
        parallel: how ranks hold the weights: ``ddp``, each the whole; ``fsdp``, each a shard (FSDP2); ``hsdp``, each a
            shard of its node's copy (HSDP). ``auto`` is ``ddp``, unless the whole would not fit, or its gradients would
            be exchanged between nodes for longer than a micro-batch takes.
        ranks_per_node: ranks of a node; between nodes the connection is slower.
        micro_batch: images that a rank computes at once; gradients are accumulated over its share of a batch. ``auto``
            is the most that are predicted to fit (``python -m aimv2 cost``).
        activation_checkpointing: True saves only the inputs of blocks, and computes the rest again in the backward
            pass. ``auto`` does so if few images would fit otherwise.
        compile: True compiles the blocks for training (``torch.compile``); evaluation never does. ``auto`` does so on
            CUDA, if the machine has the compiler that this needs.
        plugins: the plug-in (``name@digest``) of each value that is one's, by the value's path, so that an edited
            plug-in names other runs; ``aimv2.definitions.programs`` fills it in.
    """

    scale: str
    model: ModelConfig
    budget: BudgetConfig
    seed: int = Field(default=0, ge=0)
    start: StartConfig = StartConfig()
    prefix: PrefixDistribution = PrefixDistribution()
    native: NativeConfig = NativeConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    loader: LoaderConfig = LoaderConfig()
    log: LogConfig = LogConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    residual: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, gt=0)
    ranks: int = Field(default=1, gt=0)
    parallel: Literal["auto", "ddp", "hsdp", "fsdp"] = "auto"
    ranks_per_node: int = Field(default=8, gt=0)
    micro_batch: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    activation_checkpointing: Literal["auto"] | bool = "auto"
    compile: Literal["auto"] | bool = "auto"
    plugins: Annotated[Mapping[str, str], AfterValidator(Frozen)] = Frozen()

    def __post_init__(self) -> None:
        for name, parts in (("ranks", self.ranks), ("data.canonical_nodes", self.data.canonical_nodes)):
            if self.budget.batch_size % parts:
                raise ValueError(f"budget.batch_size={self.budget.batch_size} is not divisible by {name}={parts}")
        if self.residual == "bfloat16" and self.precision not in ("auto", "bfloat16"):
            raise ValueError(f"residual=bfloat16 needs precision=bfloat16, which is {self.precision} here")
        per_node = min(self.ranks, self.ranks_per_node)
        if self.parallel == "hsdp" and self.ranks % per_node:
            raise ValueError(f"parallel=hsdp needs whole nodes; ranks={self.ranks} and ranks_per_node={per_node}")
        if self.budget.batch_size % self.batch_multiple:
            raise ValueError(
                f"budget.batch_size={self.budget.batch_size} is not a multiple of {self.batch_multiple}, so that a step"
                f" of images of {self.model.num_patches} patches has as many patches in whole images of each of"
                f" native.areas={list(self.native.areas)} on ranks={self.ranks} and of"
                f" data.canonical_nodes={self.data.canonical_nodes}"
            )
        render_px, image_px = self.data.render_px, self.model.image_px
        if render_px < image_px:
            raise ValueError(f"data.render_px={render_px} is smaller than model.image_px={image_px}")
        width, head_dim = self.model.encoder.width, self.evaluation.probe.head_dim
        if width > head_dim and width % head_dim:
            raise ValueError(
                f"model.encoder.width={width} is not divisible by evaluation.probe.head_dim={head_dim},"
                " the width of a head of the attentive probe"
            )

    @property
    def name(self) -> str:
        """The name of the run. The whole resolved config is hashed, so a name stays valid when a default changes."""
        return run_name(self.identity)

    @property
    def identity(self) -> Mapping[str, Any]:
        return identity(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = TypeAdapter(RunConfig).dump_python(self, mode="json")
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        values = {key: value for key, value in values.items() if key != "attention_kernel"}  # of older versions
        for part, removed in REMOVED.items():
            if isinstance(stored := values.get(part), Mapping):
                if part in DECIDING and (used := [key for key in removed if stored.get(key)]):
                    raise UsageError(f"{part}.{used[0]} was removed, and this version cannot execute the run")
                values = {**values, part: {key: value for key, value in stored.items() if key not in removed}}
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise explain(error, cls) from error

    @property
    def batch_multiple(self) -> int:
        """The number of which the batch size is a multiple, so that each rank and canonical node has whole images."""
        return self.native.batch_multiple(self.model.num_patches, self.batch_parts)

    @property
    def batch_parts(self) -> int:
        """The number of equal parts of a batch of which both each rank and each canonical node have whole ones."""
        return math.lcm(self.ranks, self.data.canonical_nodes)

    @property
    def curve_steps(self) -> tuple[int, ...]:
        """The steps after which a point of the held-out curve is measured, from 0 to the last."""
        points = self.evaluation.curve_points
        return tuple(sorted({round(i * self.budget.num_steps / (points - 1)) for i in range(points)}))

    @property
    def label(self) -> str:
        return self.scale

    @property
    def has_files(self) -> bool:
        return self.data.kind == "files"

    @property
    def num_samples(self) -> int:
        return self.budget.samples

    @property
    def loaders(self) -> int | None:
        return None if self.loader.num_workers == "auto" else self.loader.num_workers

    @property
    def cache_dir(self) -> Path:
        return Path(self.data.cache_dir)

    @property
    def starts_from_files(self) -> bool:
        return self.start.weights is not None

    def with_cache_dir(self, path: str) -> "RunConfig":
        return replace(self, data=replace(self.data, cache_dir=path))

    def without_places(self) -> "RunConfig":
        def last(path: str | None) -> str | None:
            return None if path is None else Path(path).name

        data, sets = self.data, self.evaluation.sets
        return replace(
            self,
            log=LogConfig(),
            start=replace(self.start, weights=last(self.start.weights)),
            data=replace(
                data,
                cache_dir=DataConfig().cache_dir,
                tokenizer=last(data.tokenizer),
                sources=tuple(Path(source).name for source in data.sources),
            ),
            evaluation=replace(self.evaluation, sets=tuple(Path(one).name for one in sets)),
        )

    @property
    def title(self) -> str:
        return self.objective.name if self.budget.samples else "untrained"

    def without_training(self) -> "RunConfig":
        return replace(self, budget=replace(self.budget, samples=0))

    def untrained(self) -> Self:
        """Return the run that evaluates this run's initial encoder: no samples, defaults for all training-only fields.

        Arms that differ only in training share it.
        """
        objective, evaluation = self.objective, EvaluationConfig()
        return replaced(
            self,
            {
                "start.frozen": (),
                "model.encoder.attention": "prefix",
                "budget": {"samples": 0, "batch_size": 1},
                "prefix": {},
                "native": {},
                "objective": {name: getattr(objective, name) for name in ("name", "pixel_targets", "supervise_eos")},
                "data": self.data.as_evaluated(),
                "augment": {},
                "optimizer": {},
                "evaluation.curve_pairs": evaluation.curve_pairs,
                "evaluation.curve_points": evaluation.curve_points,
                "plugins": {path: plugin for path, plugin in self.plugins.items() if path != LAW},
                "ranks": 1,
            },
        )

    def initial(self) -> str:
        """Return a hash of what the run's encoder is before training, and of how it is measured, whatever the seed.

        Runs with the same hash and seed have the same initial encoder and the same values of its metrics, though their
        decoders, objectives and training may differ.
        """
        values = self.untrained().identity.items()
        return digest_of({key: value for key, value in values if not key.startswith(NOT_OF_INITIAL_ENCODER)})

    @property
    def split(self) -> str:
        return self.evaluation.split

    def with_samples(self, samples: float) -> "RunConfig":
        size = self.budget.batch_size
        whole = max(round(samples / size), 1) * size
        return replace(self, budget=replace(self.budget, samples=whole))


def program_of(values: Mapping[str, Any]) -> Program:
    """Build and check the run of any program from the values of its ``to_dict``."""
    if (kind := values.get(KIND)) is None:
        return RunConfig.from_dict(values)
    if kind not in PROGRAMS:
        raise UsageError(f"runs of {short(kind)} are of a plug-in; pass the file that adds it: plugins=[FILE.py]")
    return PROGRAMS[kind].from_dict(values)
