"""Checks of a finished run: prefix lengths, masks, losses, predictions, and the numbers of a report."""
