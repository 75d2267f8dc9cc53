"""The built-in sources of image-text pairs: scenes composed of glyphs."""
