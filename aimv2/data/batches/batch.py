"""A batch as tensors, and its parts: the shares of ranks, and micro-batches."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.batches.tally import Tally
from aimv2.data.reading import Bad
from aimv2.data.transforms import normalised

IMAGES = ("image", "target_image")


class Share(NamedTuple):
    """A part of a batch: the index of its first image, and the number of ranks that the batch is spread over."""

    first: int = 0
    ranks: int = 1


class Batch(NamedTuple):
    """The input of a training step, or a part of it.

    Letters: B images, I patches, T caption tokens, N supervised tokens, K scored patches.

    Attributes:
        image: float32 [B, 3, image_px, image_px], normalised; hidden patches are 0, the mean colour. At native
            resolution strips of patches, as many as the area has (``strips``). A loader gives pictures of files as
            uint8, a quarter of the bytes, and ``to`` normalises them.
        token_BT: int64 [B, T].
        prefix_len_B: int64 [B], in patches.
        supervised_N: int64 [N], indices of the supervised tokens in the flattened [B x T], ascending.
        scored_K: int64 [K], indices of the patches after the prefixes in the flattened [B x I], ascending.
        text_len_B: int64 [B], tokens up to and including end-of-text.
        tally: counts of the whole batch, which the CPU knows, so that no step waits for the device. A loader gives
            those of the part alone, which ``of_step`` replaces.
        num_scored_of_rank: patches outside the prefixes in all micro-batches of this rank; ``of_step`` sets it too.
        share: the place of this part in the whole batch.
        num_supervised_of_rank: supervised tokens in all micro-batches of this rank, likewise.
        target_image: the image whose patches the pixel loss predicts, if it is not ``image``.
        grid_B2: int64 [B, 2], rows and columns of each image, if ``image`` has strips.
        bad: the bad samples that were replaced.
    """

    image: Tensor
    token_BT: Tensor
    prefix_len_B: Tensor
    supervised_N: Tensor
    scored_K: Tensor
    text_len_B: Tensor
    tally: Tally
    num_scored_of_rank: int
    num_supervised_of_rank: int
    share: Share = Share()
    target_image: Tensor | None = None
    grid_B2: Tensor | None = None
    bad: tuple[Bad, ...] = ()

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
        """Supervised tokens of the whole batch."""
        return self.tally.num_supervised

    @property
    def num_scored(self) -> int:
        """Patches outside the prefixes in the whole batch."""
        return self.tally.num_scored

    def each(self, number: int) -> float:
        """Divide a count of the whole batch by the number of ranks.

        A part divides its sum of errors by this. The sum over a rank's parts, averaged over the ranks, is then the mean
        of the whole batch.
        """
        return number / self.share.ranks

    @property
    def num_images(self) -> int:
        """Images of the whole batch."""
        return int(self.tally.shown_SK.sum())

    def split(self, size: int, *, has_padding: bool = False) -> list["Batch"]:
        """Cut the batch into micro-batches of at most so many images, on the CPU.

        Args:
            has_padding: True keeps the width T; otherwise a micro-batch is as wide as its longest caption.
        """
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
    """Return all micro-batches of a rank in a step, with the counts of the whole batch, by which losses are divided.

    Args:
        parts: each with its own counts.
        tally: of the whole batch.
    """
    num_scored, num_supervised = (
        sum(getattr(part, name) for part in parts) for name in ("num_scored_of_rank", "num_supervised_of_rank")
    )
    counts = {"tally": tally, "num_scored_of_rank": num_scored, "num_supervised_of_rank": num_supervised}
    return [Batch(**part._asdict() | counts) for part in parts]


def _within(index_N: Tensor, rows: slice, width: int) -> Tensor:
    """Return those of the ascending indices that lie in these rows of a width, counted from the first of the rows."""
    first, end = (int(np.searchsorted(index_N.numpy(), row * width)) for row in (rows.start, rows.stop))
    own_N: Tensor = index_N[first:end] - rows.start * width
    return own_N


def scored_patches(prefix_len_B: np.ndarray, num_patches: int, num_own: int | np.ndarray) -> Tensor:
    """Return the indices of the patches after the prefixes in the flattened [B x I]: int64 [K].

    Args:
        num_patches: I.
        num_own: patches that are no padding, of all images or of each: int64 [B].
    """
    pos_I, end_B = np.arange(num_patches), np.broadcast_to(num_own, prefix_len_B.shape)
    return torch.from_numpy(np.flatnonzero((pos_I >= prefix_len_B[:, None]) & (pos_I < end_B[:, None])))
