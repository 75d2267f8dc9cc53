"""The config of a run: its dataclasses, the recipes, the run's name, and command-line overrides."""
