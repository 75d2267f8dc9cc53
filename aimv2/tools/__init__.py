"""Commands around the core, which runs without them."""
