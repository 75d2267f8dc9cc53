"""Addressed random numbers: every draw is a function of (seed, purpose, epoch, sample id).

No draw depends on a stream's history. The number of loader workers, a resume, and draws elsewhere in the program
therefore change nothing, and two arms with the same seed see the same draws.
"""

import hashlib
from functools import lru_cache

import numpy as np


@lru_cache
def hash64(text: str) -> int:
    """Return 64 bits of the text's SHA-256, as a number."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(*, seed: int, purpose: str, epoch: int = 0, sample_id: int = 0) -> np.random.Generator:
    """Return a counter-based generator (Philox 4x64) that starts at the block of this address.

    Addresses with different epoch or sample id are at least 2**128 blocks apart, so their draws never overlap.
    """
    philox = np.random.Philox(key=[seed, hash64(purpose)], counter=[0, 0, epoch, sample_id])
    return np.random.Generator(philox)


def uniforms(*, seed: int, purpose: str, epoch_B: np.ndarray, sample_id_B: np.ndarray, num_draws: int) -> np.ndarray:
    """Draw uniform numbers on [0, 1) for a batch: float64 [B, num_draws], row b from the address of sample b."""
    philox = np.random.Philox(key=[seed, hash64(purpose)])
    drawing = np.random.Generator(philox)
    state = philox.state  # set for each sample, because making a generator takes ten times as long
    uniform_BU = np.empty((len(epoch_B), num_draws))
    for uniform_U, epoch, sample_id in zip(uniform_BU, epoch_B.tolist(), sample_id_B.tolist(), strict=True):
        state["state"]["counter"] = np.array([0, 0, epoch, sample_id], dtype=np.uint64)
        philox.state = state
        drawing.random(out=uniform_U)
    return uniform_BU


def integer(*, seed: int, purpose: str) -> int:
    """Draw a 63-bit integer to seed a library's own generator (torch's, for example)."""
    return int(generator(seed=seed, purpose=purpose).integers(0, 2**63))
