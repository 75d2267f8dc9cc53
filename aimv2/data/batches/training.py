"""Training batches, each a pure function of the config and its number, and the processes that prepare them."""

import atexit
import math
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from multiprocessing import active_children
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aimv2.base import address
from aimv2.base.errors import RunFailedError
from aimv2.base.interrupt import SIGNALS
from aimv2.config.native import Steps, micro_batch_at
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch, Share, Tally, scored_patches
from aimv2.data.decode import NUM_CROP_DRAWS, random_crops
from aimv2.data.pairs import Joined
from aimv2.data.reading import Reader, Samples
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import crop_and_resize, hide_patches, normalised, resized_within, strips

T = TypeVar("T")


class TrainBatches:
    """Training batches by number. Order, caption, crop, flip and prefix length all come from random addresses."""

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
        return self.part(step, range(self._num_images(step))).to(torch.device("cpu"))

    def micro_batches(self, step: int, size: int) -> list[range]:
        """Return the images of each micro-batch of a step, as ``part`` takes them."""
        number = self._num_images(step)
        size = micro_batch_at(self._steps.area(step), self.config, size)
        return [range(start, min(start + size, number)) for start in range(0, number, size)]

    def part(self, step: int, images: range) -> Batch:
        """Return some images, counted from the first one of the rank's share, with their own counts."""
        config, steps = self.config, self._steps
        area, share = steps.area(step), Share(images.start)
        if self.rank is not None:
            share = Share(self.rank * self._num_images(step) + images.start, config.ranks)
        image_B = share.first + np.arange(len(images))
        place_B = self._reader.order.places(steps.first(step), steps.num_images(step), image_B)
        samples = self._reader.read(place_B, area if config.native.areas else None)
        epoch_B, sample_id_B = samples.epoch_B, samples.sample_id_B
        uniforms = partial(address.uniforms, seed=config.seed, epoch_B=epoch_B, sample_id_B=sample_id_B)
        image, target_image, grid_B2 = self._images(samples, uniforms, area)
        num_patches = area if grid_B2 is None else grid_B2.prod(dim=1).numpy()

        prefix_len_B = config.prefix.draw(
            seed=config.seed,
            epoch_B=epoch_B,
            sample_id_B=sample_id_B,
            step=step,
            num_steps=len(self),
            num_patches=num_patches,
        )
        token_BT = self.tokenizer.encode(samples.captions, config.model.max_text_tokens)
        supervised_BT = self.tokenizer.supervised(token_BT, supervise_eos=config.objective.supervise_eos)
        tally = Tally.of_samples(samples, list(self.pairs.parts), int(supervised_BT.sum()), num_patches - prefix_len_B)
        return Batch(
            image=image,
            token_BT=torch.from_numpy(token_BT),
            prefix_len_B=torch.from_numpy(prefix_len_B),
            supervised_N=torch.from_numpy(np.flatnonzero(supervised_BT)),
            scored_K=scored_patches(prefix_len_B, area, num_patches),
            text_len_B=torch.from_numpy(self.tokenizer.lengths(token_BT)),
            tally=tally,
            num_scored_of_rank=tally.num_scored,
            num_supervised_of_rank=tally.num_supervised,
            share=share,
            target_image=target_image,
            grid_B2=grid_B2,
            bad=tuple(samples.bad),
        )

    def _num_images(self, step: int) -> int:
        """Return the images of a step that are read here."""
        return self._steps.num_images(step) // (1 if self.rank is None else self.config.ranks)

    def _images(
        self, samples: Samples, uniforms: Callable[..., np.ndarray], area: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the images of a batch, the targets of the pixel loss if they are others, and the grids of strips."""
        config, boxes = self.config, None
        if config.data.kind != "files":  # of which the pictures are cropped already
            crop_BU = uniforms(purpose="crop", num_draws=NUM_CROP_DRAWS)
            side = len(samples.pictures[0])
            boxes = random_crops(crop_BU, side, side, self._augment)
        if config.native.areas:
            patch_px = config.model.patch_px
            images = (
                [torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in samples.pictures]  # some are flipped
                if boxes is None
                else resized_within(samples.pictures, boxes, patch_px=patch_px, area=area)
            )
            image, grid_B2 = strips(images, patch_px, area)
            return image, None, grid_B2
        image, *others = (
            _squares(pictures, boxes, config.model.image_px)
            for pictures in (samples.pictures, samples.targets)
            if pictures
        )
        target_image = others[0] if others else None
        if self._augment.hidden_fraction:
            target_image = image if target_image is None else target_image
            image = image if image.is_floating_point() else normalised(image)
            hidden_BI = uniforms(purpose="hidden patches", num_draws=area)
            image = hide_patches(image, hidden_BI, self._augment.hidden_fraction)
        return image, target_image, None


def _squares(pictures: list[np.ndarray], boxes: tuple[np.ndarray, np.ndarray] | None, image_px: int) -> Tensor:
    """Return pictures as uint8 [B, 3, P, P], or cropped, flipped and resized as float32, normalised."""
    image_BSSC = torch.from_numpy(np.stack(pictures))
    return image_BSSC.permute(0, 3, 1, 2) if boxes is None else crop_and_resize(image_BSSC, *boxes, image_px)


class _Items(Dataset[Any]):
    """Items by key, or a failure of the run, which torch would pass on from a process without its cause."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self._read = read

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._read(key)
        except RunFailedError as error:
            return error


def loaded(
    read: Callable[[Any], T], keys: Iterable[Any], *, num_workers: int, pin_memory: bool, prefetched: int | None = None
) -> Iterator[T]:
    """Read an item for each key, in order, with processes that ignore a scheduler's signals."""
    loader: DataLoader[T | RunFailedError] = DataLoader(
        _Items(read),
        sampler=keys,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=prefetched if num_workers else None,
        worker_init_fn=ignore_signals,
    )
    for item in loader:
        if isinstance(item, RunFailedError):
            raise item
        yield item


def _micro_batch(batches: TrainBatches, has_padding: bool, key: tuple[int, range]) -> Batch:
    step, images = key
    (part,) = batches.part(step, images).split(len(images), has_padding=has_padding)
    return part


def loader(
    batches: TrainBatches,
    *,
    micro_batch: int,
    has_padding: bool = False,
    first_step: int = 0,
    num_workers: int = 0,
    prefetched: int | None = None,
    pin_memory: bool = False,
) -> Iterator[list[Batch]]:
    """Load the micro-batches of each step from ``first_step`` on, each with its own counts.

    A process prepares a micro-batch at a time, because all images of a step take seconds and gigabytes.
    """
    steps = range(first_step, len(batches))
    keys = ((step, images) for step in steps for images in batches.micro_batches(step, micro_batch))
    items = loaded(
        partial(_micro_batch, batches, has_padding),
        keys,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetched=prefetched,
    )
    for step in steps:
        yield list(islice(items, len(batches.micro_batches(step, micro_batch))))


def ignore_signals(worker: int) -> None:
    """Ignore a scheduler's signals, which reach all processes of a job: the training process ends its loaders."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def kill_loaders() -> None:
    """Kill the loader processes that an error has left. multiprocessing would terminate them, which they ignore, and
    wait for them."""
    for process in active_children():
        if process.daemon:
            process.kill()
