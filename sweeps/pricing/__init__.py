"""FLOPs, time and disk that a plan needs."""
