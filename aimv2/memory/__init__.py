"""The memory that a training step and the final evaluation take, and how a run is set up to fit."""

from aimv2.memory.evaluation import EvaluationMemory, predict_evaluation
from aimv2.memory.loading import Loading
from aimv2.memory.prediction import Memory, Setup, predict
from aimv2.memory.setup import Choice, check_evaluation, choose, loading_of, resolved, setup_of

__all__ = [
    "Choice",
    "EvaluationMemory",
    "Loading",
    "Memory",
    "Setup",
    "check_evaluation",
    "choose",
    "loading_of",
    "predict",
    "predict_evaluation",
    "resolved",
    "setup_of",
]
