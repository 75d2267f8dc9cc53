"""The base of all networks: an encoder, and weights that are a function of the seed."""

import torch
from fvcore.nn import parameter_count
from torch import nn

from aimv2 import address
from aimv2.config.run_config import RunConfig
from aimv2.model.encoder import Encoder
from aimv2.objectives import objective


class Network(nn.Module):
    """An encoder and the parts that an objective trains it with. Each child has ``init_weights_(generator)``."""

    encoder: Encoder


def parameters_by_part(config: RunConfig) -> dict[str, int]:
    """Count the parameters of each part of the run's network on the meta device."""
    model = _on_meta(config)
    counted = parameter_count(model)
    return {part: counted[part] for part, _ in model.named_children()}


def build(config: RunConfig) -> Network:
    """Build the run's network; the weights of a part depend only on the seed and the shapes of that part.

    Each part draws from its own address, so arms that change one part keep the weights of the others.
    """
    model = _on_meta(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, part in model.named_children():
            generator = torch.Generator().manual_seed(address.integer(seed=config.seed, purpose=f"weights/{name}"))
            for module in part.modules():
                if isinstance(module, nn.RMSNorm | nn.LayerNorm):
                    module.reset_parameters()
            part.init_weights_(generator)  # type: ignore[operator]
    return model


def _on_meta(config: RunConfig) -> Network:
    with torch.device("meta"):
        model: Network = objective(config.objective.name).load().network(config)
    return model
