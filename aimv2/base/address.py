"""Addressed random numbers and permutations: every draw is a function of (seed, purpose, epoch, sample id).

No draw depends on a stream's history. The number of loader workers, a resume, and draws elsewhere in the program
therefore change nothing, and two arms with the same seed see the same draws.
"""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

NUM_ROUNDS = 6
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # SplitMix64's


@lru_cache
def hash64(text: str) -> int:
    """Return 64 bits of the text's SHA-256, as a number."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(*, seed: int, purpose: str, epoch: int = 0, sample_id: int = 0) -> np.random.Generator:
    """Return a counter-based generator (Philox 4x64) that starts at the block of this address.

    Addresses with different epoch or sample id are at least 2**128 blocks apart, so their draws never overlap.
    """
    # numpy's documentation allows an ISeedSequence, its types do not.
    philox = np.random.Philox(_Key(seed, purpose), counter=[0, 0, epoch, sample_id])  # type: ignore[arg-type]
    return np.random.Generator(philox)


class _Key(ISeedSequence):
    """The key of a generator. If numpy is given the key itself, it also draws entropy, which takes twice as long as the
    rest."""

    def __init__(self, seed: int, purpose: str) -> None:
        # As numpy converts a key: a list with a number from 2**63 on becomes floats, so that its last 11 bits are lost.
        # Every stored run has these keys.
        self._key_2 = np.asarray([seed, hash64(purpose)]).astype(np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> np.ndarray:
        assert (n_words, dtype) == (2, np.uint64), "Philox has a key of two words"
        return self._key_2


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


class Bijection:
    """A permutation of the numbers from 0 to ``size - 1`` without memory. Letters: B numbers, R rounds.

    A Feistel network permutes the smallest domain of an even number of bits that contains them; a number that leaves
    the range is permuted again until it is back (cycle walking: arXiv 2110.03684 has both for shuffling).
    """

    def __init__(self, size: int, *, seed: int, purpose: str, epoch: int = 0) -> None:
        self.size = size
        self._half_bits = np.uint64(max(-(-(size - 1).bit_length() // 2), 1))
        self._mask = np.uint64((1 << int(self._half_bits)) - 1)
        drawing = generator(seed=seed, purpose=purpose, epoch=epoch)
        self._key_R = drawing.integers(0, 2**64, size=NUM_ROUNDS, dtype=np.uint64)

    def __call__(self, number_B: np.ndarray) -> np.ndarray:
        """Return the place of each number: int64 [B]."""
        found_B = self._permuted(number_B.astype(np.uint64))
        while (is_out_B := found_B >= self.size).any():
            found_B[is_out_B] = self._permuted(found_B[is_out_B])
        return found_B.astype(np.int64)

    def _permuted(self, number_B: np.ndarray) -> np.ndarray:
        left_B, right_B = number_B >> self._half_bits, number_B & self._mask
        for key in self._key_R:
            left_B, right_B = right_B, left_B ^ self._mixed(right_B, key)
        joined_B: np.ndarray = (left_B << self._half_bits) | right_B
        return joined_B

    def _mixed(self, half_B: np.ndarray, key: np.uint64) -> np.ndarray:
        """Return a hash of half a number, as wide as that half: SplitMix64's finalizer, which wraps around."""
        mixed_B = half_B + key
        for multiplier, shift in zip(_MULTIPLIERS, (np.uint64(30), np.uint64(27)), strict=True):
            mixed_B = (mixed_B ^ (mixed_B >> shift)) * multiplier
        hashed_B: np.ndarray = (mixed_B ^ (mixed_B >> np.uint64(31))) & self._mask
        return hashed_B
