"""``python -m aimv2 data audit``: what is in sources, read in parallel, as a page."""
