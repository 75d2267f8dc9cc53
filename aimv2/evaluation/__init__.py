"""What is measured on a trained (or untrained) model, always on held-out concepts and with full attention."""
