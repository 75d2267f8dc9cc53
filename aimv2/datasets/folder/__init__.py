"""Folders of images, with or without a table."""
