"""Inference from values per arm and seed. It knows no study and reads no file, except the record of looks."""
