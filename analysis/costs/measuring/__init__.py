"""Times and memory of encoders and training steps, measured in one process."""
