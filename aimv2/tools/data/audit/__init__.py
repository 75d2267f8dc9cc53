"""What is in sources and labelled sets, read in parallel: ``python -m aimv2 data index … audit=true``."""
