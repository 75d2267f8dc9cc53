"""Commands on data: ``python -m aimv2 data``."""
