"""From run folders to reports. Every statement comes from the recorded runs and the studies."""
