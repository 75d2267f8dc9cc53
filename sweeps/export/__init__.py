"""Copies of what runs have recorded, for the trackers of others."""
