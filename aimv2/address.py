"""Randomness is an address: every draw is a function of (seed, purpose, epoch, sample id).

Nothing draws from a stream that a worker happens to own. So the number of loader workers, resuming, and what
another part of the program drew before change nothing, and two arms with one seed see the same draws.
"""

import hashlib
from functools import lru_cache

import numpy as np


@lru_cache
def _purpose_key(purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")


def generator(*, seed: int, purpose: str, epoch: int = 0, sample_id: int = 0) -> np.random.Generator:
    """A counter-based generator (Philox 4x64) that starts at the block which the address names.

    Addresses with different epoch or sample id are at least 2**128 blocks apart, so their draws never overlap.
    """
    philox = np.random.Philox(key=[seed, _purpose_key(purpose)], counter=[0, 0, epoch, sample_id])
    return np.random.Generator(philox)


def uniforms(*, seed: int, purpose: str, epoch_B: np.ndarray, sample_id_B: np.ndarray, num_draws: int) -> np.ndarray:
    """Uniform draws on [0, 1) for a batch of samples: float64 [B, num_draws], row b from sample b's own address."""
    return np.stack(
        [
            generator(seed=seed, purpose=purpose, epoch=epoch, sample_id=sample_id).random(num_draws)
            for epoch, sample_id in zip(epoch_B.tolist(), sample_id_B.tolist(), strict=True)
        ]
    )


def integer(*, seed: int, purpose: str) -> int:
    """A 63-bit integer for libraries that want a seed of their own (torch generators, say)."""
    return int(generator(seed=seed, purpose=purpose).integers(0, 2**63))
