"""Training objectives: a torch-free specification of each, and a torch module with its network and losses."""

from aimv2.objectives.registry import REGISTRY, Objective, objective

__all__ = ["REGISTRY", "Objective", "objective"]
