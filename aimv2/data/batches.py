"""Batches, each a pure function of the config and its number, whatever process prepares it and when."""

import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aimv2 import address
from aimv2.config.run_config import RunConfig
from aimv2.data.crops import NUM_CROP_DRAWS, random_crops
from aimv2.data.pairs import Joined
from aimv2.data.reading import Bad, Reader, Samples
from aimv2.data.tally import Tally
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import (
    crop_and_resize,
    hide_patches,
    network_input,
    network_inputs,
    resized_within,
    strips,
)
from aimv2.errors import RunFailedError
from aimv2.native import Steps
from aimv2.runs.interrupt import SIGNALS

T = TypeVar("T")


class Share(NamedTuple):
    """A part of a batch: the index of its first image, and the number of ranks that the batch is spread over."""

    first: int = 0
    ranks: int = 1


class Batch(NamedTuple):
    """The input of a training step, or a part of it.

    Letters: B images, I patches, T caption tokens, N supervised tokens, K scored patches.

    Attributes:
        image: float32 [B, 3, image_px, image_px], normalised; hidden patches are 0, the mean colour. At native
            resolution strips of patches, as many as the area has (``strips``).
        token_BT: int64 [B, T].
        prefix_len_B: int64 [B], in patches.
        supervised_N: int64 [N], indices of the supervised tokens in the flattened [B x T].
        scored_K: int64 [K], indices of the patches after the prefixes in the flattened [B x I].
        text_len_B: int64 [B], tokens up to and including end-of-text.
        tally: counts of the whole batch, which the CPU knows, so that no step waits for the device. A loader gives
            those of its part; the training loop replaces them by the sums over the ranks.
        share: the place of this part in the whole batch.
        num_scored_of_rank: patches outside the prefixes in all micro-batches of this rank.
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
        scored_K = _scored(prefix_len_B.numpy(), config.model.num_patches, config.model.num_patches)
        counts = Tally.empty(1)
        counts.shown_SK[0, 0] = len(image)
        tally = replace(
            counts,
            num_supervised=len(supervised_N),
            num_scored=int(num_scored_B.sum()),
            num_scored_images=int((num_scored_B > 0).sum()),
        )
        return cls(image, token_BT, prefix_len_B, supervised_N, scored_K, text_len_B, tally, tally.num_scored)

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
        T, num_patches = self.token_BT.shape[1], self.num_patches
        text_len_B = self.text_len_B[rows]
        longest = T if has_padding else int(text_len_B.max())
        row_N, place_N = self.supervised_N // T, self.supervised_N % T
        is_here_N = (row_N >= rows.start) & (row_N < rows.stop)
        row_K = self.scored_K // num_patches
        is_here_K = (row_K >= rows.start) & (row_K < rows.stop)
        return self._replace(
            image=self.image[rows],
            token_BT=self.token_BT[rows, :longest],
            prefix_len_B=self.prefix_len_B[rows],
            supervised_N=(row_N[is_here_N] - rows.start) * longest + place_N[is_here_N],
            scored_K=self.scored_K[is_here_K] - rows.start * num_patches,
            text_len_B=text_len_B,
            share=self.share._replace(first=self.share.first + rows.start),
            target_image=None if self.target_image is None else self.target_image[rows],
            grid_B2=None if self.grid_B2 is None else self.grid_B2[rows],
            bad=self.bad if rows.start == 0 else (),
        )

    def to(self, device: torch.device) -> "Batch":
        tensors = {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return self._replace(**moved)


class TrainBatches(Dataset[Batch]):
    """Training batches by number. Order, caption, crop, flip and prefix length all come from random addresses.

    Args:
        rank: the rank whose part of each batch to read and return; None returns whole batches.
    """

    def __init__(self, config: RunConfig, pairs: Joined, tokenizer: CaptionTokenizer, rank: int | None = None) -> None:
        self.config = config
        self.rank = rank
        if config.native.areas:
            pairs = pairs.drawn_at(math.ceil(config.native.areas[-1] ** 0.5) * config.model.patch_px)
        self.pairs = pairs
        self.tokenizer = tokenizer
        self._steps = Steps(config)
        self._reader = Reader(config, pairs)
        self._augment = config.augment.of(config.data)

    def __len__(self) -> int:
        return self.config.budget.num_steps

    def __getitem__(self, step: int) -> Batch:
        config, steps = self.config, self._steps
        area = steps.area(step)
        num_samples, first, share = steps.num_images(step), steps.first(step), Share()
        if self.rank is not None:
            num_samples //= config.ranks
            share = Share(self.rank * num_samples, config.ranks)
            first += share.first
        samples = self._reader.read(np.arange(first, first + num_samples), area if config.native.areas else None)
        epoch_B, sample_id_B = samples.epoch_B, samples.sample_id_B
        uniforms = partial(address.uniforms, seed=config.seed, epoch_B=epoch_B, sample_id_B=sample_id_B)
        image, target_image, grid_B2 = self._images(samples, uniforms, area)
        num_patches = area if grid_B2 is None else grid_B2.prod(dim=1).numpy()

        prefix_len_B = config.prefix.draw(
            seed=config.seed, epoch_B=epoch_B, sample_id_B=sample_id_B, step=step, num_patches=num_patches
        )
        token_BT = self.tokenizer.encode(samples.captions, config.model.max_text_tokens)
        supervised_BT = self.tokenizer.supervised(token_BT, supervise_eos=config.objective.supervise_eos)
        tally = Tally.of_samples(samples, list(self.pairs.parts), int(supervised_BT.sum()), num_patches - prefix_len_B)
        return Batch(
            image=image,
            token_BT=torch.from_numpy(token_BT),
            prefix_len_B=torch.from_numpy(prefix_len_B),
            supervised_N=torch.from_numpy(np.flatnonzero(supervised_BT)),
            scored_K=_scored(prefix_len_B, area, num_patches),
            text_len_B=torch.from_numpy(self.tokenizer.lengths(token_BT)),
            tally=tally,
            num_scored_of_rank=tally.num_scored,
            share=share,
            target_image=target_image,
            grid_B2=grid_B2,
            bad=tuple(samples.bad),
        )

    def _images(
        self, samples: Samples, uniforms: Callable[..., np.ndarray], area: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the images of a batch, the targets of the pixel loss if they are others, and the grids of strips.

        Args:
            uniforms: draws numbers for each sample.
        """
        config, boxes = self.config, None
        if config.data.kind != "files":  # of which the pictures are cropped already
            crop_BU = uniforms(purpose="crop", num_draws=NUM_CROP_DRAWS)
            side = len(samples.pictures[0])
            boxes = random_crops(crop_BU, side, side, self._augment)
        if config.native.areas:
            patch_px = config.model.patch_px
            images = (
                network_inputs(samples.pictures)
                if boxes is None
                else resized_within(samples.pictures, boxes, patch_px=patch_px, area=area)
            )
            image, grid_B2 = strips(images, patch_px, area)
            return image, None, grid_B2
        image, *others = (
            _network_inputs(pictures, boxes, config.model.image_px)
            for pictures in (samples.pictures, samples.targets)
            if pictures
        )
        target_image = others[0] if others else None
        if self._augment.hidden_fraction:
            target_image = image if target_image is None else target_image
            hidden_BI = uniforms(purpose="hidden patches", num_draws=area)
            image = hide_patches(image, hidden_BI, self._augment.hidden_fraction)
        return image, target_image, None


def _scored(prefix_len_B: np.ndarray, num_patches: int, num_own: int | np.ndarray) -> Tensor:
    """Return the indices of the patches after the prefixes in the flattened [B x I]: int64 [K].

    Args:
        num_patches: I.
        num_own: patches that are no padding, of all images or of each: int64 [B].
    """
    pos_I, end_B = np.arange(num_patches), np.broadcast_to(num_own, prefix_len_B.shape)
    return torch.from_numpy(np.flatnonzero((pos_I >= prefix_len_B[:, None]) & (pos_I < end_B[:, None])))


def _network_inputs(pictures: list[np.ndarray], boxes: tuple[np.ndarray, np.ndarray] | None, image_px: int) -> Tensor:
    """Return pictures as network inputs, after crops and flips if there are any."""
    image_BSSC = torch.from_numpy(np.stack(pictures))
    return network_input(image_BSSC) if boxes is None else crop_and_resize(image_BSSC, *boxes, image_px)


class _Guarded(Dataset[Any]):
    """Items that return a failure of the run, because torch would pass it on from a process without its cause."""

    def __init__(self, items: Dataset[Any]) -> None:
        self._items = items

    def __getitem__(self, number: int) -> Any:
        try:
            return self._items[number]
        except RunFailedError as error:
            return error


def loaded(items: Dataset[T], numbers: range, *, num_workers: int, pin_memory: bool) -> Iterator[T]:
    """Load items by number, in order, with processes that ignore a scheduler's signals.

    Raises:
        RunFailedError: as the items, in any process.
    """
    found: DataLoader[T | RunFailedError] = DataLoader(
        _Guarded(items),
        sampler=numbers,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=ignore_signals,
    )
    for item in found:
        if isinstance(item, RunFailedError):
            raise item
        yield item


def loader(batches: TrainBatches, *, first_step: int, pin_memory: bool) -> Iterator[Batch]:
    """Load the batches from ``first_step`` on, in order, with ``loader.num_workers`` processes.

    Raises:
        RunFailedError: the data is broken (cause ``data``).
    """
    steps = range(first_step, len(batches))
    return loaded(batches, steps, num_workers=batches.config.loader.num_workers, pin_memory=pin_memory)


def ignore_signals(worker: int) -> None:
    """Ignore a scheduler's signals, which reach all processes of a job: the training process ends its loaders."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
