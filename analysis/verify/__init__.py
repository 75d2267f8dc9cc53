"""The first experiments on a finished run: prefix lengths and masks, the balance of the losses, pixels and captions."""
