"""Which sample comes when: a pure function of the seed and the place in the run."""

from functools import lru_cache

import numpy as np

from aimv2 import address


def sample_order(*, seed: int, start: int, stop: int, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and rows of the samples at places start..stop-1 of a run: two int64 [stop - start].

    Every epoch is a permutation of all rows; a batch may begin in one epoch and end in the next.
    """
    place_B = np.arange(start, stop)
    epoch_B = place_B // num_rows
    row_B = np.empty_like(place_B)
    for epoch in np.unique(epoch_B):
        here_B = epoch_B == epoch
        row_B[here_B] = _permutation(seed, int(epoch), num_rows)[place_B[here_B] % num_rows]
    return epoch_B, row_B


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_rows: int) -> np.ndarray:
    return address.generator(seed=seed, purpose="order", epoch=epoch).permutation(num_rows)
