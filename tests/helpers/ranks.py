"""Processes that are the ranks of a run, with gloo."""

import multiprocessing
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from aimv2.training.world import ALONE, World


def on_ranks(ranks, folder, function, *arguments):
    """Call a function of a module with the world in one process for each rank, and return what rank 0 returns.

    Args:
        folder: an empty one.
        function: returns what ``torch.save`` can write, and ``torch.load`` read with weights only. One rank alone calls
            it in this process.
    """
    if ranks == 1:
        return function(ALONE, *arguments)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, function.__module__])  # torch is imported once for all of them
    processes = [
        server.Process(target=_as_rank, args=(rank, ranks, folder, function, arguments)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * ranks
    return torch.load(folder / "found", weights_only=True)


def _as_rank(rank, ranks, folder, function, arguments):
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(minutes=5))
    found = function(World(ranks, rank=rank, saving=dist.new_group(backend="gloo")), *arguments)
    if rank == 0:
        torch.save(found, folder / "found")
    dist.destroy_process_group()
    sys.exit(0)
