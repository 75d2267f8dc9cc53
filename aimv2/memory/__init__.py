"""The memory that a training step takes, and how a run is set up to fit."""

from aimv2.memory.loading import Loading
from aimv2.memory.prediction import Memory, Setup, predict
from aimv2.memory.setup import Choice, choose, loading_of, resolved, setup_of

__all__ = ["Choice", "Loading", "Memory", "Setup", "choose", "loading_of", "predict", "resolved", "setup_of"]
