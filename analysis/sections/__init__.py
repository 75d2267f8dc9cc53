"""Sections of reports: functions from evidence and findings to parts of a document."""
