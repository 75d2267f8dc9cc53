"""A search over a study's factors (``search=optuna``): trials that are drawn by Optuna, one run each."""
