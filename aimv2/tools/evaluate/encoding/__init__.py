"""Features of images and texts of frozen encoders, saved by weights and data."""
