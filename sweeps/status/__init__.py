"""Where a sweep stands, and how that is displayed."""
