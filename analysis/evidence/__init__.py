"""Runs as tables, and the records and searches that reports are made from."""
