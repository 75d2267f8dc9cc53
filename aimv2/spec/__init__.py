"""Specifications of objectives and metrics, without torch."""
