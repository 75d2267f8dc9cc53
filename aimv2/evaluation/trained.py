"""A trained model, as a metric of a plug-in gets it. Letters: N images, I patches, D width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.prepare import Data
from aimv2.data.transfer import TransferSet
from aimv2.evaluation.features import Encoded
from aimv2.evaluation.held_out import HeldOutPairs
from aimv2.evaluation.prepare import prepare_held_out, prepare_labelled
from aimv2.model.network import Network


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network, and the held-out pairs that its run is evaluated on.

    Attributes:
        network: in evaluation mode, on ``config.device``.
        pairs: the held-out pairs (``evaluation.num_items``), with captions as tokens.
        encoded: the frozen encoder's features, computed once for all metrics.
        labelled: returns the labelled images in three splits on which the encoder is probed, with their tasks.
    """

    network: Network
    config: RunConfig
    pairs: HeldOutPairs
    encoded: Encoded
    labelled: Callable[[], Sequence[TransferSet]]

    @classmethod
    def of(cls, network: Network, data: Data, config: RunConfig) -> Self:
        """Return a network with the data that its run is evaluated on, none of which is prepared before it is read."""
        pairs = prepare_held_out(data, config)
        encoded = Encoded(network.encoder, pairs.images, config)
        return cls(network.eval(), config, pairs, encoded, partial(prepare_labelled, data, config))

    @property
    def images(self) -> np.ndarray:
        """The held-out images: uint8 [N, S, S, 3]."""
        return self.pairs.images

    @property
    def items(self) -> np.ndarray:
        """The number of each held-out pair as an item, as ``Items`` takes them: int64 [N]."""
        return self.pairs.item_N

    def features(self, images: np.ndarray | None = None, *, is_causal: bool = False) -> Tensor:
        """Return the encoder's features of images uint8 [N, S, S, 3], the held-out ones by default.

        Args:
            is_causal: causal attention instead of full attention.

        Returns:
            float32 [N, I, D] on the host, or float16 where the config saves half.
        """
        return self.encoded.of(self.images if images is None else images, is_causal=is_causal)
