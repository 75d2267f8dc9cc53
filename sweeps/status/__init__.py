"""Progress of a sweep, and its display."""
