"""What an objective says of itself; everything else (data, loop, evaluation, cost, report) asks this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from aimv2.config.run_config import ModelConfig, ObjectiveConfig, RunConfig
from aimv2.cost import Part
from aimv2.errors import UsageError
from aimv2.objectives import REGISTRY, objective
from aimv2.prefix import PrefixDistribution

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aimv2.data.batches import Batch
    from aimv2.model.network import Network

Report = Literal["captions", "pixels", "retrieval"]


class Losses(NamedTuple):
    """What a step minimises, and the terms by name as they are logged."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective(ABC):
    """An objective: the network it trains, its losses, what it can report and what it costs.

    Ours load torch and the network where they train, not before: plans ask for all the rest, of many runs, and torch
    takes longer to load than a plan to be made.

    Attributes:
        attention: the encoder's in training, unless the config names one.
        reports: what its network can be evaluated on besides the encoder's features; the first of them is the held-out
            curve. The others are reported as not applicable.
        reads: the fields of ``ObjectiveConfig`` that it reads.
    """

    attention: ClassVar[Literal["prefix", "bidirectional"]]
    reports: ClassVar[tuple[Report, ...]]
    reads: ClassVar[tuple[str, ...]]

    @abstractmethod
    def network(self, config: RunConfig) -> Network:
        """The network, its weights not initialised yet."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch, config: RunConfig) -> Losses:
        """The losses of a batch that lies on the model's device."""

    @abstractmethod
    def cost(self, config: RunConfig) -> list[Part]:
        """What a forward pass costs, part by part."""

    def shared_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """The parameters at which all terms of the loss pull; none if there is one term."""
        return []

    def check(self, config: RunConfig) -> None:
        """Refuse values that this objective cannot have, or would not read: two runs must not differ in name alone.

        Raises:
            UsageError: naming the value and what is allowed.
        """
        for field in fields(ObjectiveConfig):
            value, default = getattr(config.objective, field.name), getattr(ObjectiveConfig(), field.name)
            if field.name not in ("name", *self.reads) and value != default:
                readers = [name for name in REGISTRY if field.name in objective(name).reads]
                raise UsageError(
                    f"objective.name={config.objective.name} has no {field.name};"
                    f" objective.{field.name} belongs to objective.name={' or '.join(readers)}"
                )
        attention = config.model.encoder.attention
        if attention != "prefix" and "pixels" not in self.reports and config.prefix != PrefixDistribution():
            raise UsageError(
                f"prefix.law={config.prefix.law!r} with attention={attention!r} in the encoder and no pixel loss, where"
                " nothing reads prefix lengths: leave prefix as it is"
            )


def visible_prefix(config: ModelConfig, prefix_len_B: Tensor) -> Tensor | None:
    """The prefix lengths of the encoder's mask in training: the drawn ones, 1 if causal, None if bidirectional."""
    attention = config.encoder.attention
    assert attention != "auto", "resolve() replaces it by the objective's own"
    if attention == "prefix":
        return prefix_len_B
    return prefix_len_B.new_ones(prefix_len_B.shape) if attention == "causal" else None
