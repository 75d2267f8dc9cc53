"""A machine of given size."""

from aimv2.sweeps.machine import Machine


def machine(*, cores=8, memory=64e9, free=None, gpus=0, gpu_memory=0, resident=lambda pid: 0):
    return Machine(
        num_cores=lambda: cores,
        total_memory=lambda: int(memory),
        available_memory=lambda: int(memory if free is None else free),
        resident_memory=resident,
        num_gpus=lambda: gpus,
        gpu_memory=lambda: int(gpu_memory),
    )
