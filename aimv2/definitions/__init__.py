"""Definitions of objectives, metrics and programs, without torch."""
