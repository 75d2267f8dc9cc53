"""Batches, each a pure function of the config and its number, whatever process prepares it and when."""

import signal
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aimv2 import address
from aimv2.config.run_config import RunConfig
from aimv2.data.crops import NUM_CROP_DRAWS, random_crops
from aimv2.data.order import sample_order
from aimv2.data.pairs import CAPTION_KINDS, Joined, texts
from aimv2.data.prepare import mixture
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import crop_and_resize, hide_patches
from aimv2.runs.interrupt import SIGNALS


class Share(NamedTuple):
    """A rank's part of a batch, and counts of the whole batch, which the CPU knows without communication.

    Attributes:
        first: index of the part's first image in the batch.
        ranks: number of equal parts of the batch.
        num_supervised: supervised tokens of the batch.
        num_scored_images: images of the batch whose prefix leaves a patch to predict.
    """

    first: int
    ranks: int
    num_supervised: int
    num_scored_images: int


class Batch(NamedTuple):
    """The input of a training step. Letters: B images, T caption tokens, N supervised tokens.

    Attributes:
        image: float32 [B, 3, image_px, image_px], normalised; hidden patches are 0, the mean colour.
        token_BT: int64 [B, T].
        prefix_len_B: int64 [B], in patches.
        supervised_N: int64 [N], indices of the supervised tokens in the flattened [B x T].
        text_len_B: int64 [B], tokens up to and including end-of-text.
        num_scored: patches outside the prefixes in the whole batch, counted on the CPU to avoid a device sync.
        share: the part of the batch that this is; None is the whole batch.
        target_image: the image whose patches the pixel loss predicts, if it is not ``image``.
    """

    image: Tensor
    token_BT: Tensor
    prefix_len_B: Tensor
    supervised_N: Tensor
    text_len_B: Tensor
    num_scored: int
    share: Share | None = None
    target_image: Tensor | None = None

    @property
    def num_supervised(self) -> int:
        """Supervised tokens of the whole batch."""
        return len(self.supervised_N) if self.share is None else self.share.num_supervised

    def each(self, number: int) -> float:
        """Divide a count of the whole batch by the number of ranks.

        A rank divides its sum of errors by this. The mean of the ranks' losses is then that of the whole batch.
        """
        return number if self.share is None else number / self.share.ranks

    def to(self, device: torch.device) -> "Batch":
        tensors = {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return self._replace(**moved)


class TrainBatches(Dataset[Batch]):
    """Training batches by number. Order, caption, crop, flip and prefix length all come from random addresses.

    Args:
        rank: the rank whose part of each batch to return; None returns whole batches.
    """

    def __init__(self, config: RunConfig, pairs: Joined, tokenizer: CaptionTokenizer, rank: int | None = None) -> None:
        self.config = config
        self.rank = rank
        self.pairs = pairs
        self.tokenizer = tokenizer
        self._mixture = mixture(config.data, pairs)
        self._augment = config.augment.of(config.data)

    def __len__(self) -> int:
        return self.config.budget.num_steps

    def __getitem__(self, step: int) -> Batch:
        config, size = self.config, self.config.budget.batch_size
        order = partial(
            sample_order,
            seed=config.seed,
            start=step * size,
            stop=(step + 1) * size,
            num_rows=len(self.pairs),
            mixture=self._mixture,
        )
        epoch_B, row_B = order()
        # A second, independent order: it also shows each caption once an epoch, and keeps the shares of a mixture.
        caption_row_B = row_B if config.data.captions == "own" else order(purpose="order of shuffled captions")[1]
        sample_id_B = self.pairs.sample_ids(row_B)

        uniforms = partial(address.uniforms, seed=config.seed)
        caption_B = uniforms(purpose="caption", epoch_B=epoch_B, sample_id_B=sample_id_B, num_draws=1)[:, 0]
        captions = self._captions(caption_row_B, is_dense_B=caption_B < config.data.dense_fraction)
        num_patches = config.model.num_patches
        prefix_len_B = config.prefix.draw(
            seed=config.seed, epoch_B=epoch_B, sample_id_B=sample_id_B, step=step, num_patches=num_patches
        )
        token_BT = self.tokenizer.encode(captions, config.model.max_text_tokens)
        supervised_BT = self.tokenizer.supervised(token_BT, supervise_eos=config.objective.supervise_eos)
        num_scored_B = num_patches - prefix_len_B
        # Every rank counts the whole batch, up to here; it crops only the images of its own part.
        own, share = slice(None), None
        if self.rank is not None:
            each = size // config.ranks
            own = slice(self.rank * each, (self.rank + 1) * each)
            share = Share(own.start, config.ranks, int(supervised_BT.sum()), int((num_scored_B > 0).sum()))
        crop_BU = uniforms(purpose="crop", epoch_B=epoch_B[own], sample_id_B=sample_id_B[own], num_draws=NUM_CROP_DRAWS)
        boxes = random_crops(crop_BU, config.data.render_px, config.data.render_px, self._augment)

        def cropped(row_B: np.ndarray) -> Tensor:
            return crop_and_resize(torch.from_numpy(self.pairs.images(row_B)), *boxes, config.model.image_px)

        image, target_image = cropped(row_B[own]), None
        if config.data.pixels == "shuffled":
            target_image = cropped(order(purpose="order of shuffled pixels")[1][own])
        if self._augment.hidden_fraction:
            hidden_BI = uniforms(
                purpose="hidden patches", epoch_B=epoch_B[own], sample_id_B=sample_id_B[own], num_draws=num_patches
            )
            target_image = image if target_image is None else target_image
            image = hide_patches(image, hidden_BI, self._augment.hidden_fraction)
        return Batch(
            image=image,
            token_BT=torch.from_numpy(token_BT[own]),
            prefix_len_B=torch.from_numpy(prefix_len_B[own]),
            supervised_N=torch.from_numpy(np.flatnonzero(supervised_BT[own])),
            text_len_B=torch.from_numpy(self.tokenizer.lengths(token_BT[own])),
            num_scored=int(num_scored_B.sum()),
            share=share,
            target_image=target_image,
        )

    def _captions(self, row_B: np.ndarray, *, is_dense_B: np.ndarray) -> list[str]:
        text_B = np.empty(len(row_B), dtype=object)
        for kind in CAPTION_KINDS:
            here_B = is_dense_B if kind == "dense" else ~is_dense_B
            text_B[here_B] = texts(self.pairs.captions(row_B[here_B], kind))
        found: list[str] = text_B.tolist()
        return found


def loader(batches: TrainBatches, *, first_step: int, pin_memory: bool) -> DataLoader[Batch]:
    """Load the batches from ``first_step`` on, in order, with ``loader.num_workers`` processes."""
    return DataLoader(
        batches,
        sampler=range(first_step, len(batches)),
        batch_size=None,
        num_workers=batches.config.loader.num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_signals,
    )


def _ignore_signals(worker: int) -> None:
    """Ignore a scheduler's signals, which reach all processes of a job: the training process ends its loaders."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
