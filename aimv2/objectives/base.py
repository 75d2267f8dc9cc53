"""What an objective says of itself; everything else (data, loop, evaluation, cost, report) asks this."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from aimv2.config import ModelConfig, RunConfig
from aimv2.cost import Part
from aimv2.data.batches import Batch
from aimv2.model.network import Network

Report = Literal["captions", "pixels", "retrieval"]


class Losses(NamedTuple):
    """What a step minimises, and the terms by name as they are logged."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective(ABC):
    """An objective: the network it trains, its losses, what it can report and what it costs.

    Attributes:
        attention: the encoder's in training, unless the config names one.
        reports: what its network can be evaluated on besides the encoder's features; the first of them is the held-out
            curve. The others are reported as not applicable.
    """

    attention: ClassVar[Literal["prefix", "bidirectional"]]
    reports: ClassVar[tuple[Report, ...]]

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

    def check(self, config: RunConfig) -> None:  # noqa: B027 - most objectives have nothing to refuse
        """Refuse a config that this objective cannot or would not read.

        Raises:
            UsageError: naming the value and what is allowed.
        """


def visible_prefix(config: ModelConfig, prefix_len_B: Tensor) -> Tensor | None:
    """The prefix lengths of the encoder's mask in training: the drawn ones, 1 if causal, None if bidirectional."""
    attention = config.encoder.attention
    assert attention != "auto", "resolve() replaces it by the objective's own"
    if attention == "prefix":
        return prefix_len_B
    return prefix_len_B.new_ones(prefix_len_B.shape) if attention == "causal" else None
