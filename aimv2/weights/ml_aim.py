"""Apple's layout: ml-aim's names, and a ``config.json`` with the keys of transformers."""

from typing import Any

from aimv2.weights.contents import WeightsConfig
from aimv2.weights.names import ML_AIM
from aimv2.weights.transformers import VisionModel, check_model_type


class MlAim(VisionModel):
    """ml-aim's ``AIMv2`` encoder; its config.json may be incomplete or missing."""

    name = "ml-aim"
    names = ML_AIM
    head = ()
    file = "weights.safetensors"

    def stated(self, where: str, description: dict[str, Any]) -> dict[str, Any]:
        check_model_type(where, description, "aimv2", "aimv2_vision_model")  # its own, and that of transformers
        return description

    def description(self, config: WeightsConfig) -> dict[str, Any]:
        return self.sizes(config)
