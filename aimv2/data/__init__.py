"""Data: scenes and glyphs with captions, and batches that are a pure function of the config and the step."""
