"""One AIMv2 run: model, objective, data, training, evaluation, cost. It does not depend on sweeps."""

__version__ = "1.0.0"
