"""From rendered glyphs and captions to batches that are a pure function of their place in the run."""
