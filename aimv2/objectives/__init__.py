"""Training objectives: a torch-free specification of each, and a torch module with its network and losses."""

from aimv2.spec.objectives import PRE_TRAINING, REGISTRY, Objective, objective

__all__ = ["PRE_TRAINING", "REGISTRY", "Objective", "objective"]
