"""The folder of a run: who may write there, what is recorded, and why a run failed."""
