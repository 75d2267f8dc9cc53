"""Cores, memory and GPUs of this machine, and the locks that share them between launches."""
