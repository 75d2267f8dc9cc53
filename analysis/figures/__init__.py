"""Figures of reports: functions that return a figure and its data."""
