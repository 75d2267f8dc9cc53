"""The memory that a training step and the final evaluation take, this machine, and how a run is set up to fit it."""
