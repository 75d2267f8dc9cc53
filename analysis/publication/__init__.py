"""What a study gives to papers and model hubs: methods, a reproducibility checklist, model cards."""
