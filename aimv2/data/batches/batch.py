"""A batch as tensors, its counts, and its parts: the shares of ranks, and micro-batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.base.errors import REASONS, RunFailedError
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CAPTION_KINDS
from aimv2.data.reading import Bad, Samples
from aimv2.data.transforms import normalised

NUM_SCALARS = 4
MIN_SAMPLES = 1000  # a rate of bad samples is known only after some
IMAGES = ("image", "target_image")


@dataclass(frozen=True)
class Tally:
    """Counts of a batch, of a rank's part of it, or of a whole run."""

    num_supervised: int  # supervised tokens
    num_scored: int  # patches outside the prefixes
    num_scored_images: int  # images whose prefix leaves a patch to predict
    num_retries: int  # reads that were repeated after a transient error
    shown_SK: np.ndarray  # samples by source and by the kind of their caption
    bad_SR: np.ndarray  # bad samples, each replaced by another one, by source and reason

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
        """Return the realised mixture, for the record: the samples of each source by kind of caption, and bad ones."""
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


class Share(NamedTuple):
    """A part of a batch: the index of its first image, and the number of ranks that the batch is spread over."""

    first: int = 0
    ranks: int = 1


class Batch(NamedTuple):
    """The input of a training step, or a part of it.

    Letters: B images, I patches, T caption tokens, N supervised tokens, K scored patches.
    """

    # float32 [B, 3, image_px, image_px], normalised; hidden patches are 0, the mean colour. At native resolution strips
    # of patches, as many as the area has (``strips``). A loader gives pictures of files as uint8, a quarter of the
    # bytes, and ``to`` normalises them.
    image: Tensor
    token_BT: Tensor  # int64 [B, T]
    prefix_len_B: Tensor  # int64 [B], in patches
    supervised_N: Tensor  # int64 [N], indices of the supervised tokens in the flattened [B x T], ascending
    scored_K: Tensor  # int64 [K], indices of the patches after the prefixes in the flattened [B x I], ascending
    text_len_B: Tensor  # int64 [B], tokens up to and including end-of-text
    tally: Tally  # of the whole batch, so that no step waits for the device; from a loader, of the part alone
    num_scored_of_rank: int  # patches outside the prefixes in all micro-batches of this rank; ``of_step`` sets it too
    num_supervised_of_rank: int  # supervised tokens in all micro-batches of this rank, likewise
    share: Share = Share()  # the place of this part in the whole batch
    target_image: Tensor | None = None  # the image whose patches the pixel loss predicts, if it is not ``image``
    grid_B2: Tensor | None = None  # int64 [B, 2], rows and columns of each image, if ``image`` has strips
    bad: tuple[Bad, ...] = ()  # the bad samples that were replaced

    @classmethod
    def of(
        cls,
        image: Tensor,
        token_BT: Tensor,
        prefix_len_B: Tensor,
        supervised_N: Tensor,
        text_len_B: Tensor,
        config: RunConfig,
    ) -> "Batch":
        """Return a whole batch of one source, whose counts follow from its tensors."""
        num_scored_B = (config.model.num_patches - prefix_len_B).numpy()
        scored_K = scored_patches(prefix_len_B.numpy(), config.model.num_patches, config.model.num_patches)
        counts = Tally.empty(1)
        counts.shown_SK[0, 0] = len(image)
        tally = replace(
            counts,
            num_supervised=len(supervised_N),
            num_scored=int(num_scored_B.sum()),
            num_scored_images=int((num_scored_B > 0).sum()),
        )
        return cls(
            *(image, token_BT, prefix_len_B, supervised_N, scored_K, text_len_B, tally),
            num_scored_of_rank=tally.num_scored,
            num_supervised_of_rank=tally.num_supervised,
        )

    @property
    def num_patches(self) -> int:
        """I, the patches of each image; of a strip, its padding included."""
        if self.grid_B2 is not None:
            return self.image.shape[-1] // self.image.shape[-2]
        return (len(self.scored_K) + int(self.prefix_len_B.sum())) // len(self.image)  # each is scored or in a prefix

    @property
    def num_supervised(self) -> int:
        return self.tally.num_supervised

    @property
    def num_scored(self) -> int:
        return self.tally.num_scored

    def each(self, number: int) -> float:
        """Divide a count of the whole batch by the number of ranks.

        A part divides its sum of errors by this. The sum over a rank's parts, averaged over the ranks, is then the mean
        of the whole batch.
        """
        return number / self.share.ranks

    @property
    def num_images(self) -> int:
        return int(self.tally.shown_SK.sum())

    def split(self, size: int, *, has_padding: bool = False) -> list["Batch"]:
        """Cut the batch into micro-batches of at most so many images, on the CPU."""
        starts = range(0, len(self.image), size)
        return [self._part(slice(start, start + size), has_padding) for start in starts]

    def _part(self, rows: slice, has_padding: bool) -> "Batch":
        T, text_len_B = self.token_BT.shape[1], self.text_len_B[rows]
        longest = T if has_padding else int(text_len_B.max())
        supervised_N = _within(self.supervised_N, rows, T)
        return self._replace(
            image=self.image[rows],
            token_BT=self.token_BT[rows, :longest].contiguous(),  # as a GPU can copy it from pinned memory
            prefix_len_B=self.prefix_len_B[rows],
            supervised_N=supervised_N - supervised_N // T * (T - longest),
            scored_K=_within(self.scored_K, rows, self.num_patches),
            text_len_B=text_len_B,
            share=self.share._replace(first=self.share.first + rows.start),
            target_image=None if self.target_image is None else self.target_image[rows],
            grid_B2=None if self.grid_B2 is None else self.grid_B2[rows],
            bad=self.bad if rows.start == 0 else (),
        )

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, with normalised images."""
        tensors = {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        pictures = {name: moved[name] for name in IMAGES if name in moved and not moved[name].is_floating_point()}
        moved |= {name: normalised(pixels, moved.get("grid_B2")) for name, pixels in pictures.items()}
        return self._replace(**moved)


def of_step(parts: Sequence[Batch], tally: Tally) -> list[Batch]:
    """Return all micro-batches of a rank in a step, with the counts of the whole batch, by which losses are divided."""
    num_scored, num_supervised = (
        sum(getattr(part, name) for part in parts) for name in ("num_scored_of_rank", "num_supervised_of_rank")
    )
    counts = {"tally": tally, "num_scored_of_rank": num_scored, "num_supervised_of_rank": num_supervised}
    return [Batch(**part._asdict() | counts) for part in parts]


def _within(index_N: Tensor, rows: slice, width: int) -> Tensor:
    """Return those of the ascending indices that lie in these rows of a width, counted from the first of the rows."""
    first, end = (int(np.searchsorted(index_N.numpy(), row * width)) for row in (rows.start, rows.stop))
    within_N: Tensor = index_N[first:end] - rows.start * width
    return within_N


def scored_patches(prefix_len_B: np.ndarray, num_patches: int, num_own: int | np.ndarray) -> Tensor:
    """Return the indices of the patches after the prefixes in the flattened [B x I]: int64 [K].

    ``num_own`` patches are no padding, of all images or of each: int64 [B].
    """
    pos_I, end_B = np.arange(num_patches), np.broadcast_to(num_own, prefix_len_B.shape)
    return torch.from_numpy(np.flatnonzero((pos_I >= prefix_len_B[:, None]) & (pos_I < end_B[:, None])))
