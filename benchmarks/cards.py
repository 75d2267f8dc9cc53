"""The rates that GPUs' data sheets name, for matrix products without sparsity."""

import torch

# FLOP/s by precision, and by the name that the driver reports. NVIDIA's data sheets; of the RTX 4090, with float32
# accumulation, its white paper.
PEAKS = {
    "NVIDIA H200": {"bfloat16": 989e12, "float32": 67e12},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989e12, "float32": 67e12},
    "NVIDIA H100 PCIe": {"bfloat16": 756e12, "float32": 51e12},
    "NVIDIA A100-SXM4-80GB": {"bfloat16": 312e12, "float32": 19.5e12},
    "NVIDIA A100-SXM4-40GB": {"bfloat16": 312e12, "float32": 19.5e12},
    "NVIDIA A100 80GB PCIe": {"bfloat16": 312e12, "float32": 19.5e12},
    "NVIDIA L40S": {"bfloat16": 362e12, "float32": 91.6e12},
    "NVIDIA GeForce RTX 4090": {"bfloat16": 165e12, "float32": 82.6e12},
}


def peak_rate(name: str, precision: str) -> float | None:
    """Return the FLOP/s of a GPU by the name that its driver reports; None if it is not in PEAKS."""
    return PEAKS.get(name, {}).get(precision)


def card() -> str:
    """Return the name of this process's GPU, as its driver reports it."""
    return torch.cuda.get_device_name()
