"""The one training loop, and what it steps with."""
