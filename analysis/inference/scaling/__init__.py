"""Scaling laws: fits, comparison of forms, intervals, compute-optimal frontier."""
