"""The memory that a training step takes, and how a run is set up to fit."""

from aimv2.memory.prediction import Memory, Setup, predict
from aimv2.memory.setup import Choice, choose, resolved, setup_of

__all__ = ["Choice", "Memory", "Setup", "choose", "predict", "resolved", "setup_of"]
