"""The reports of objectives: groups of final metrics, each with its point of the held-out curve."""
