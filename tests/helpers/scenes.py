"""Relations and their opposites, written down apart from the code that computes them."""

OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
