"""Training batches: what they hold, how each follows from its number, and how processes load them."""
