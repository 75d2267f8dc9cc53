"""Convert weights between our layout and those in which AIMv2 is published.

``transformers`` is ``Aimv2VisionModel``; ``ml-aim`` has Apple's names, which timm's ``aimv2_*`` read too. Ours is a
folder with ``weights.safetensors``, float32 under the names of ``Network``, and ``config.json``, a ``WeightsConfig``.
How to normalise pixels: docs/weights.md.
"""

from aimv2.tools.weights.folders import (
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
    "load_encoder",
    "read_published",
    "read_weights",
    "write_published",
    "write_weights",
]
