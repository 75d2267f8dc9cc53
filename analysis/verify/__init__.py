"""Checks of a finished run: prefix lengths, masks, the balance of the two losses, predicted pixels and captions."""
