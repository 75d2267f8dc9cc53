"""The rates that GPUs' data sheets name, for matrix products without sparsity."""

import torch

# FLOP/s by precision. NVIDIA's data sheets: H100 and H200 (SXM), A100, L40S, RTX 4090 (Ada white paper, float32
# accumulation).
PEAKS = {
    "H200": {"bfloat16": 989e12, "float32": 67e12},
    "H100": {"bfloat16": 989e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "float32": 19.5e12},
    "L40S": {"bfloat16": 362e12, "float32": 91.6e12},
    "RTX 4090": {"bfloat16": 165e12, "float32": 82.6e12},
}


def peak_rate(name: str, precision: str) -> float | None:
    """Return the FLOP/s of a GPU by the name that its driver reports; None if it is not in PEAKS."""
    return next((rates.get(precision) for card, rates in PEAKS.items() if card in name), None)


def card() -> str:
    """Return the name of this process's GPU, as its driver reports it."""
    return torch.cuda.get_device_name()
