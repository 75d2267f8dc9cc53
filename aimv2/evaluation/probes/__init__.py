"""Probes of a frozen encoder: attentive classifiers and nearest neighbours on labelled images."""
