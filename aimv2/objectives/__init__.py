"""What can be optimised, one file each. A new objective is a file here and a line in REGISTRY.

Nothing here imports torch, so that configs can check a name; ``objective`` loads the file when it is needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aimv2.objectives.base import Objective

REGISTRY = {
    "aimv2": "aimv2.objectives.aimv2:AIMv2",
    "caption": "aimv2.objectives.caption:Caption",
    "image_only": "aimv2.objectives.image_only:ImageOnly",
    "cappa": "aimv2.objectives.cappa:CapPa",
    "clip": "aimv2.objectives.clip:CLIP",
    "siglip": "aimv2.objectives.siglip:SigLIP",
}


def objective(name: str) -> "Objective":
    """The objective of this name, which a config has checked."""
    module, _, attribute = REGISTRY[name].partition(":")
    found: Objective = getattr(import_module(module), attribute)()
    return found
