"""What this machine has: cores, memory, GPUs, and the locks that share them out."""
