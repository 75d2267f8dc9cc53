"""The memory that a training step and the final evaluation take, and how a run is set up to fit."""
