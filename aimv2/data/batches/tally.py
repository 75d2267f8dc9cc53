"""Counts of what training has shown. Letters: S sources, K caption kinds, R reasons, X counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aimv2.base.errors import REASONS, RunFailedError
from aimv2.data.pairs import CAPTION_KINDS
from aimv2.data.reading import Samples

NUM_SCALARS = 4
MIN_SAMPLES = 1000  # a rate of bad samples is known only after some


@dataclass(frozen=True)
class Tally:
    """Counts of a batch, of a rank's part of it, or of a whole run.

    Attributes:
        num_supervised: supervised tokens.
        num_scored: patches outside the prefixes.
        num_scored_images: images whose prefix leaves a patch to predict.
        num_retries: reads that were repeated after a transient error.
        shown_SK: samples by source and by the kind of their caption.
        bad_SR: bad samples, each replaced by another one, by source and reason.
    """

    num_supervised: int
    num_scored: int
    num_scored_images: int
    num_retries: int
    shown_SK: np.ndarray
    bad_SR: np.ndarray

    @classmethod
    def empty(cls, num_sources: int) -> "Tally":
        return cls.of([0] * (NUM_SCALARS + num_sources * (len(CAPTION_KINDS) + len(REASONS))), num_sources)

    @classmethod
    def of_samples(
        cls, samples: Samples, sources: Sequence[str], num_supervised: int, num_scored_B: np.ndarray
    ) -> "Tally":
        """Count samples of these sources, of which each has so many scored patches."""
        shown_SK = np.zeros((len(sources), len(CAPTION_KINDS)), dtype=np.int64)
        np.add.at(shown_SK, (samples.part_B, samples.is_dense_B * CAPTION_KINDS.index("dense")), 1)
        bad_SR = np.zeros((len(sources), len(REASONS)), dtype=np.int64)
        for bad in samples.bad:
            bad_SR[sources.index(bad.source), REASONS.index(bad.reason)] += 1
        num_scored, num_scored_images = int(num_scored_B.sum()), int((num_scored_B > 0).sum())
        return cls(num_supervised, num_scored, num_scored_images, samples.num_retries, shown_SK, bad_SR)

    @classmethod
    def of(cls, count_X: Sequence[int] | np.ndarray, num_sources: int) -> "Tally":
        """Return the tally whose ``counts`` these are."""
        scalar_X, shown, bad = np.split(
            np.asarray(count_X, dtype=np.int64), [NUM_SCALARS, NUM_SCALARS + num_sources * len(CAPTION_KINDS)]
        )
        supervised, scored, images, retries = scalar_X.tolist()
        shown_SK, bad_SR = shown.reshape(num_sources, -1), bad.reshape(num_sources, -1)
        return cls(supervised, scored, images, retries, shown_SK, bad_SR)

    @property
    def counts(self) -> np.ndarray:
        """All counts, whose sums over parts are those of the whole: int64 [X]."""
        scalars = [self.num_supervised, self.num_scored, self.num_scored_images, self.num_retries]
        return np.concatenate([np.array(scalars, dtype=np.int64), self.shown_SK.ravel(), self.bad_SR.ravel()])

    @property
    def num_bad(self) -> int:
        return int(self.bad_SR.sum())

    def check(self, max_bad_rate: float, sources: Sequence[str]) -> None:
        """Stop a run whose data is too bad.

        Raises:
            RunFailedError: the rate of bad samples exceeds the limit, which counts from MIN_SAMPLES on.
        """
        num_shown = int(self.shown_SK.sum())
        if self.num_bad > max_bad_rate * max(num_shown, MIN_SAMPLES):
            counts = ", ".join(
                f"{source}: {reason} {count:,}"
                for source, bad_R in zip(sources, self.bad_SR.tolist(), strict=True)
                for reason, count in zip(REASONS, bad_R, strict=True)
                if count
            )
            raise RunFailedError(
                "data",
                f"{self.num_bad:,} bad samples beside {num_shown:,} good ones are more than"
                f" data.max_bad_rate={max_bad_rate:g} ({counts}); bad_samples.jsonl lists them",
            )

    def by_source(self, sizes: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """Return the realised mixture, for the record: the samples of each source by kind of caption, and bad ones.

        Args:
            sizes: training pairs of each source; ``epochs`` is how often each was shown on average.
        """
        rows = zip(sizes.items(), self.shown_SK.tolist(), self.bad_SR.tolist(), strict=True)
        return {
            source: {
                "samples": sum(shown_K),
                **dict(zip(CAPTION_KINDS, shown_K, strict=True)),
                "epochs": sum(shown_K) / size,
                "bad": {reason: count for reason, count in zip(REASONS, bad_R, strict=True) if count},
            }
            for (source, size), shown_K, bad_R in rows
        }

    @property
    def num_sources(self) -> int:
        return len(self.shown_SK)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally.of(self.counts + other.counts, self.num_sources)
