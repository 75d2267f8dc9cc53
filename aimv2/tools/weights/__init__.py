"""Convert weights between our layout and those in which AIMv2 is published.

``transformers`` is ``Aimv2VisionModel``, or ``Aimv2Model`` for LiT's pair of encoders; ``ml-aim`` has Apple's names,
which timm's ``aimv2_*`` read too. Ours is a folder with ``weights.safetensors``, float32 under the names of
``DualEncoder`` (only ``encoder.*`` without a text tower), and ``config.json``, a ``WeightsConfig``. How to normalise
pixels: docs/weights.md.
"""

from aimv2.tools.weights.folders import (
    load_dual_encoder,
    load_encoder,
    read_published,
    read_weights,
    write_published,
    write_weights,
)
from aimv2.tools.weights.layouts import Weights, WeightsConfig

__all__ = [
    "Weights",
    "WeightsConfig",
    "load_dual_encoder",
    "load_encoder",
    "read_published",
    "read_weights",
    "write_published",
    "write_weights",
]
