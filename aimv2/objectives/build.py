"""The objectives by their names, and the networks that runs train, with their initial weights."""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

import torch
from fvcore.nn import parameter_count

from aimv2.config.run_config import RunConfig
from aimv2.definitions.objectives import Objective, objective
from aimv2.model.initial import init_weights_
from aimv2.model.layers import Stack
from aimv2.model.network import Network
from aimv2.objectives.aimv2 import AIMv2, CapPa, CaptionOnly, ImageOnly
from aimv2.objectives.base import Implementation
from aimv2.objectives.contrastive import CLIP, SigLIP

BUILT_IN: Mapping[str, type[Implementation[Any]]] = {
    "aimv2": AIMv2,
    "caption": CaptionOnly,
    "image_only": ImageOnly,
    "cappa": CapPa,
    "clip": CLIP,
    "siglip": SigLIP,
}


def implementation_of(goal: Objective) -> type[Implementation[Any]]:
    """Return an objective's network and losses; a plug-in's are imported here."""
    if not isinstance(goal.implementation, str):
        return goal.implementation()
    if goal.implementation in BUILT_IN:
        return BUILT_IN[goal.implementation]
    implementation: type[Implementation[Any]] = resolve_name(goal.implementation)
    return implementation


def build(config: RunConfig) -> Network:
    """Build the run's network with its initial weights."""
    model = build_empty(config)
    model.to_empty(device="cpu")
    init_weights_(model, seed=config.seed)
    return model


def build_empty(config: RunConfig) -> Network:
    """Build the run's network without weights, on the meta device. Frozen parts require no gradients."""
    with torch.device("meta"):
        model: Network = implementation_of(objective(config.objective.name)).network(config)
    for module in model.modules():
        if isinstance(module, Stack):
            module.is_residual_cast = config.residual == "bfloat16"
    for part in config.start.frozen:
        getattr(model, part).requires_grad_(False)
    return model


def parameters_by_part(config: RunConfig) -> dict[str, int]:
    """Count the parameters of each part of the run's network on the meta device."""
    model = build_empty(config)
    counted = parameter_count(model)
    return {part: counted[part] for part, _ in model.named_children()}
