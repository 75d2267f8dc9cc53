"""What a run is: its config, the recipes to start from, and its name."""
