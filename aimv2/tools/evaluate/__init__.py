"""Evaluation of any encoder on labelled sets in files: probes, neighbours, zero-shot classification and retrieval."""
