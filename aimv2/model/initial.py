"""Initial weights: a module declares the distributions of its parameters, and each parameter has its own address.

What a parameter starts from depends on the seed, its dotted name, its shape and its distribution, and on no other
parameter. Runs with the same seed therefore share every tensor that they have in common.
"""

from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from aimv2.base import address

TRUNCATED_STD = 0.87962566103423978  # standard deviation of a standard normal truncated at -2 and 2


class Distribution(Protocol):
    """Fills a tensor in place with draws from the generator."""

    def __call__(self, tensor: Tensor, *, generator: torch.Generator) -> object: ...


@runtime_checkable
class DeclaresInitial(Protocol):
    """A module that declares the initial distributions of its parameters."""

    def initial(self) -> dict[str, Distribution]:
        """Return distributions by the parameters' dotted names within the module.

        Norms, and children that declare their own, are left out.
        """


@torch.no_grad()
def init_weights_(module: nn.Module, *, seed: int) -> None:
    """Draw each parameter of the module from the address of its dotted name."""
    declared = _declared(module)
    for name, parameter in module.named_parameters():
        assert name in declared, f"no module declares the initial distribution of {name}"
        generator = torch.Generator().manual_seed(address.integer(seed=seed, purpose=f"weights/{name}"))
        declared[name](parameter, generator=generator)


def constant(value: float) -> Distribution:
    def fill(tensor: Tensor, *, generator: torch.Generator) -> None:
        tensor.fill_(value)

    return fill


def normal(std: float) -> Distribution:
    return partial(nn.init.normal_, std=std)


def uniform(bound: float) -> Distribution:
    return partial(nn.init.uniform_, a=-bound, b=bound)


def truncated_normal(std: float) -> Distribution:
    """Return the normal that is cut at twice its width; ``std`` is what remains after the cut."""
    width = std / TRUNCATED_STD
    return partial(nn.init.trunc_normal_, std=width, a=-2 * width, b=2 * width)


def xavier_uniform(num_fused: int = 1) -> Distribution:
    """Return Xavier-uniform of the rows of a kernel, in which ``num_fused`` layers follow each other."""

    def fill(tensor: Tensor, *, generator: torch.Generator) -> None:
        for weight in tensor.flatten(1).chunk(num_fused):
            nn.init.xavier_uniform_(weight, generator=generator)

    return fill


def _declared(module: nn.Module) -> dict[str, Distribution]:
    """Return the distributions that the module and the modules within it declare, by dotted name."""
    declared: dict[str, Distribution] = {}
    for path, part in module.named_modules():
        own: dict[str, Distribution] = {}
        if isinstance(part, nn.RMSNorm | nn.LayerNorm):
            own = {"weight": constant(1), "bias": constant(0)}
        elif isinstance(part, DeclaresInitial):
            own = part.initial()
        declared |= {f"{path}.{name}".removeprefix("."): distribution for name, distribution in own.items()}
    return declared
