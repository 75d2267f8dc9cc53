"""Run folders: the lease on a run, its record, and the reasons for failures."""
