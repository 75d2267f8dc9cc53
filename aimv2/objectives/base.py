"""The interface between objectives and the training loop: modules whose forward pass gives the losses."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, NamedTuple, TypeVar

from torch import Tensor, nn

from aimv2.config.model_config import ModelConfig
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.model.network import Network

N = TypeVar("N", bound=Network)


class Losses(NamedTuple):
    """The loss that a step minimises, and its terms by the names under which they are logged.

    Those of a micro-batch are its part of the losses of the whole batch: their sum over the micro-batches of a rank,
    averaged over the ranks, is the loss of the whole batch.
    """

    total: Tensor
    terms: dict[str, Tensor]


class Implementation(nn.Module, ABC, Generic[N]):
    """An objective: a network, and its losses as the forward pass. Its specification is in the registry.

    DistributedDataParallel and FSDP2 wrap this module, because they only see what happens in a forward pass.

    Attributes:
        model: the network, on the device of the batches.
    """

    reads_padding: ClassVar[bool] = False  # the loss of a sample depends on the padding of its caption

    def __init__(self, model: N, config: RunConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    @classmethod
    @abstractmethod
    def network(cls, config: RunConfig) -> N:
        """Return the network; its weights are not initialised yet."""

    @abstractmethod
    def forward(self, batch: Batch) -> Losses:
        """Return the losses of a batch, or of a part of it."""

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that every term of the loss trains; none if there is one term."""
        return []


class Embeddings(NamedTuple):
    """Unit vectors of images and of their texts, float32 [B, S] each."""

    image_BS: Tensor
    text_BS: Tensor


class Comparing(Implementation[N]):
    """An objective in which the loss of a sample depends on the others of the batch, through their embeddings."""

    @abstractmethod
    def forward(self, batch: Batch, whole: Callable[[Embeddings], Embeddings] | None = None) -> Losses:
        """Return the losses of a batch, or of a part of it.

        Args:
            whole: maps the embeddings of the part to those of the whole batch, without gradients; None if the batch is
                whole.
        """

    @abstractmethod
    def embed(self, batch: Batch) -> Embeddings:
        """Return the embeddings by which samples are compared."""


def visible_prefix(config: ModelConfig, prefix_len_B: Tensor) -> Tensor | None:
    """Return the prefix lengths of the encoder's mask in training: the sampled ones, 1 if causal, None if
    bidirectional."""
    attention = config.encoder.attention
    assert attention != "auto", "resolve() replaces it by the objective's own"
    if attention == "prefix":
        return prefix_len_B
    return prefix_len_B.new_ones(prefix_len_B.shape) if attention == "causal" else None
