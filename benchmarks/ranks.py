"""The ranks of a benchmark, which torchrun starts."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch
import torch.distributed as dist

from aimv2.base.errors import UsageError
from aimv2.training.distributed import GIVEN
from aimv2.training.world import ALONE, World


@contextmanager
def launched(device: str) -> Iterator[World]:
    """Be one of torchrun's ranks within the context, or alone without it. Only rank 0 prints.

    Raises:
        UsageError: WORLD_SIZE is set, and another variable of torchrun is not.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if missing := [name for name in (*GIVEN, "LOCAL_RANK") if name not in os.environ]:
        raise UsageError(f"WORLD_SIZE is set, but not {' and '.join(missing)}; start the ranks with torchrun")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    rank = dist.get_rank()
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere if rank else sys.stdout):
            yield World(dist.get_world_size(), rank=rank)
    finally:
        dist.destroy_process_group()
