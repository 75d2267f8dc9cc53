"""From a study to finished runs."""
