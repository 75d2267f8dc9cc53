"""The processes that torchrun started for one evaluation: each encodes a part of the images, and rank 0 measures."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

TIMEOUT = timedelta(hours=24)  # ranks wait for the slowest one, which may read a slower disk


class Ranks(NamedTuple):
    """This process and the number of all."""

    rank: int = 0
    size: int = 1

    def share(self, num_rows: int) -> range:
        """Return the rows that this rank encodes: a contiguous part, so that shards are read in order."""
        return range(num_rows * self.rank // self.size, num_rows * (self.rank + 1) // self.size)

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all ranks, which must all call this."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def of_first(self, value: Any) -> Any:
        """Return the value of rank 0."""
        return self.gathered(value if self.rank == 0 else None)[0]


ALONE = Ranks()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the other ranks, if there are any, and select this rank's GPU."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "cuda":
        # Some launchers show each process all GPUs of its host, others only its own.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
    if size == 1:
        yield ALONE
        return
    dist.init_process_group("gloo", timeout=TIMEOUT)  # only counts are exchanged
    try:
        yield Ranks(rank, size)
    finally:
        dist.destroy_process_group()
