"""The interface between an objective's network and losses and the training loop."""

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor, nn

from aimv2.config.run_config import ModelConfig, RunConfig
from aimv2.data.batches import Batch
from aimv2.model.network import Network

N = TypeVar("N", bound=Network)


class Losses(NamedTuple):
    """The loss that a step minimises, and its terms by the names under which they are logged."""

    total: Tensor
    terms: dict[str, Tensor]


class Implementation(ABC, Generic[N]):
    """An objective's network and losses; its specification is in ``aimv2.objectives.registry``."""

    @abstractmethod
    def network(self, config: RunConfig) -> N:
        """Return the network; its weights are not initialised yet."""

    @abstractmethod
    def losses(self, model: N, batch: Batch, config: RunConfig) -> Losses:
        """Return the losses of a batch that is on the model's device."""

    def shared_parameters(self, model: N) -> list[nn.Parameter]:
        """Return the parameters that every term of the loss trains; none if there is one term."""
        return []


def visible_prefix(config: ModelConfig, prefix_len_B: Tensor) -> Tensor | None:
    """Return the prefix lengths of the encoder's mask in training: the sampled ones, 1 if causal, None if
    bidirectional."""
    attention = config.encoder.attention
    assert attention != "auto", "resolve() replaces it by the objective's own"
    if attention == "prefix":
        return prefix_len_B
    return prefix_len_B.new_ones(prefix_len_B.shape) if attention == "causal" else None
