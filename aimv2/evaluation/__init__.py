"""Evaluation of a trained or untrained model, always on held-out pairs."""
