"""Checks of a finished run: prefix lengths, masks, losses and predictions."""
