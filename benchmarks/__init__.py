"""Benchmarks: the encoder and the loading of data beside other implementations, and training steps."""
