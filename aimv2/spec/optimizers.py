"""The specification of every optimizer: what plans and predictions of memory need. Nothing here imports torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from aimv2.base.errors import unknown

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from aimv2.config.training_config import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer. Its rate is set in every step, and checkpoints hold all tensors of its state, whatever they are.

    With ``parallel=fsdp`` each of them has the parameter's shape, or is the number of steps, ``step``.

    Attributes:
        implementation: ``module:function`` that builds it from groups of parameters and its config.
        num_moments: tensors of a parameter's size that it holds for each parameter, in memory and in checkpoints.
    """

    implementation: str
    num_moments: int

    def load(self) -> "Callable[[list[dict[str, Any]], OptimizerConfig], Optimizer]":
        """Import the function, and with it torch."""
        function: Callable[..., Optimizer] = resolve_name(self.implementation)
        return function


REGISTRY: dict[str, OptimizerSpec] = {
    "adamw": OptimizerSpec(implementation="aimv2.training.optimizer:adamw", num_moments=2),
}


def optimizer_spec(name: str) -> OptimizerSpec:
    """Return the optimizer of this name; an unknown name is a UsageError."""
    if name not in REGISTRY:
        raise unknown("optimizer.name", name, REGISTRY)
    return REGISTRY[name]
