"""FLOPs, time and disk that runs need, before they start."""
