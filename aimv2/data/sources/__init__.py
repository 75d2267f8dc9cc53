"""The built-in sources of image-text pairs: glyphs, and scenes composed of glyphs."""
