"""Values that are chosen together under one name: scales, mixtures of sources and recipes of post-training."""
