"""Tar shards: their members, index and records."""
