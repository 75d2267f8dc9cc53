"""One AIMv2 run: model, objective, data, training, evaluation, cost. Knows nothing of sweeps."""

__version__ = "0.1.0"
