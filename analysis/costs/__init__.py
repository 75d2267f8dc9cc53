"""Costs of encoders and objectives: measurements in one process, and the report on them."""
