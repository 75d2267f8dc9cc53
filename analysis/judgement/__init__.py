"""From evidence to findings: comparisons, controls, sensitivity, verdicts."""
