"""A search over a study's factors (``search=optuna``): trials that are drawn and pruned by Optuna, one run each."""
