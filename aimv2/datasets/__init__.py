"""Pairs in files: described sources, their records and images."""
