"""The section on scaling laws: the fitted law, and how well small scales predict large ones."""
