"""Keyed permutations of any size without memory, by a Feistel network. Letters: B numbers, R rounds."""

import numpy as np

from aimv2 import address

NUM_ROUNDS = 6
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # SplitMix64's


class Bijection:
    """A permutation of the numbers from 0 to ``size - 1``.

    A Feistel network permutes the smallest domain of an even number of bits that contains them; a number that leaves
    the range is permuted again until it is back (cycle walking: arXiv 2110.03684 has both for shuffling).

    Args:
        seed, purpose, epoch: the random address of the round keys.
    """

    def __init__(self, size: int, *, seed: int, purpose: str, epoch: int = 0) -> None:
        self.size = size
        self._half_bits = np.uint64(max(-(-(size - 1).bit_length() // 2), 1))
        self._mask = np.uint64((1 << int(self._half_bits)) - 1)
        generator = address.generator(seed=seed, purpose=purpose, epoch=epoch)
        self._key_R = generator.integers(0, 2**64, size=NUM_ROUNDS, dtype=np.uint64)

    def __call__(self, number_B: np.ndarray) -> np.ndarray:
        """Return the place of each number: int64 [B]."""
        return self._walk(number_B, is_inverse=False)

    def inverse(self, number_B: np.ndarray) -> np.ndarray:
        """Return the number at each place: int64 [B]."""
        return self._walk(number_B, is_inverse=True)

    def _walk(self, number_B: np.ndarray, *, is_inverse: bool) -> np.ndarray:
        found_B = self._permuted(number_B.astype(np.uint64), is_inverse)
        while (is_out_B := found_B >= self.size).any():
            found_B[is_out_B] = self._permuted(found_B[is_out_B], is_inverse)
        return found_B.astype(np.int64)

    def _permuted(self, number_B: np.ndarray, is_inverse: bool) -> np.ndarray:
        left_B, right_B = number_B >> self._half_bits, number_B & self._mask
        for key in self._key_R[::-1] if is_inverse else self._key_R:
            if is_inverse:
                left_B, right_B = right_B ^ self._mixed(left_B, key), left_B
            else:
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
