"""The specification of every optimizer: what plans and predictions of memory need. Nothing here imports torch."""

from typing import NamedTuple

from aimv2.base.errors import unknown


class OptimizerSpec(NamedTuple):
    """An optimizer, which ``aimv2.training.optimizer`` builds.

    Attributes:
        num_moments: tensors of a parameter's size that it holds for each parameter, in memory and in checkpoints.
    """

    num_moments: int


REGISTRY: dict[str, OptimizerSpec] = {"adamw": OptimizerSpec(num_moments=2)}


def optimizer_spec(name: str) -> OptimizerSpec:
    """Return the optimizer of this name; an unknown name is a UsageError."""
    if name not in REGISTRY:
        raise unknown("optimizer.name", name, REGISTRY)
    return REGISTRY[name]
