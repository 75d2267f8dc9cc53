"""Where workers run: in this process, as processes of this machine, or on SLURM."""
