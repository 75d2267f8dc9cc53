"""The base of all networks: an encoder, and weights that are a function of the seed."""

import torch
from fvcore.nn import parameter_count
from torch import nn

from aimv2.config.run_config import RunConfig
from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from aimv2.model.layers import Stack
from aimv2.spec.objectives import objective


class Network(nn.Module):
    """An encoder and the parts that an objective trains it with. The parts declare their initial distributions."""

    encoder: Encoder


def parameters_by_part(config: RunConfig) -> dict[str, int]:
    """Count the parameters of each part of the run's network on the meta device."""
    model = build_empty(config)
    counted = parameter_count(model)
    return {part: counted[part] for part, _ in model.named_children()}


def build(config: RunConfig) -> Network:
    """Build the run's network with its initial weights."""
    model = build_empty(config)
    model.to_empty(device="cpu")
    init_weights_(model, seed=config.seed)
    return model


def build_empty(config: RunConfig) -> Network:
    """Build the run's network without weights, on the meta device. Frozen parts require no gradients."""
    with torch.device("meta"):
        model: Network = objective(config.objective.name).load().network(config)
    for module in model.modules():
        if isinstance(module, Stack):
            module.is_residual_cast = config.residual == "bfloat16"
    for part in config.start.frozen:
        getattr(model, part).requires_grad_(False)
    return model
