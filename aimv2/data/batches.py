"""Batches, each a pure function of (config, its number): nothing depends on who prepares it, or when."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from aimv2 import address
from aimv2.config import RunConfig
from aimv2.data.order import sample_order
from aimv2.data.pairs import Pairs, mixture
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import NUM_CROP_DRAWS, centre_crops, crop_and_resize, random_crops


class Batch(NamedTuple):
    """What a step reads. Letters: B images, T caption tokens, N supervised tokens.

    Attributes:
        image: float32 [B, 3, image_px, image_px], normalised.
        token_BT: int64 [B, T].
        prefix_len_B: int64 [B], in patches.
        supervised_N: int64 [N], the supervised tokens' places in the flattened [B x T].
        text_len_B: int64 [B], tokens up to and including end-of-text.
        num_scored: patches outside the prefixes, in all; known here, so that nobody asks the device.
    """

    image: Tensor
    token_BT: Tensor
    prefix_len_B: Tensor
    supervised_N: Tensor
    text_len_B: Tensor
    num_scored: int

    def to(self, device: torch.device) -> "Batch":
        moved = {
            name: value.to(device, non_blocking=True) for name, value in self._asdict().items() if name != "num_scored"
        }
        return self._replace(**moved)


class TrainBatches(Dataset[Batch]):
    """Training batches by number: order, caption choice, crop, flip and prefix length all from random addresses."""

    def __init__(self, config: RunConfig, pairs: Pairs, tokenizer: CaptionTokenizer) -> None:
        self.config = config
        self.pairs = pairs
        self.tokenizer = tokenizer
        self._mixture = mixture(config.data, pairs)
        self._sample_ids = pairs.table["sample_id"].to_numpy()
        self._captions = pairs.table[["name", "description"]].to_numpy()

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
        # A second, independent order: each caption once an epoch too, and in a mixture as often as its source is shown.
        caption_row_B = row_B if config.data.captions == "own" else order(purpose="order of shuffled captions")[1]
        sample_id_B = self._sample_ids[row_B]

        def draws(purpose: str, num_draws: int) -> np.ndarray:
            return address.uniforms(
                seed=config.seed, purpose=purpose, epoch_B=epoch_B, sample_id_B=sample_id_B, num_draws=num_draws
            )

        use_description_B = draws("caption", 1)[:, 0] < config.data.descriptive_fraction
        captions = self._captions[caption_row_B, use_description_B.astype(int)].tolist()
        box_B4, flip_B = random_crops(draws("crop", NUM_CROP_DRAWS), config.data.render_px, config.augment)
        prefix_len_B = config.prefix.draw(
            seed=config.seed,
            epoch_B=epoch_B,
            sample_id_B=sample_id_B,
            step=step,
            num_patches=config.model.num_patches,
        )
        image = torch.from_numpy(self.pairs.images(row_B))
        token_BT = self.tokenizer.encode(captions, config.model.max_text_tokens)
        supervised_BT = self.tokenizer.supervised(token_BT, supervise_eos=config.objective.supervise_eos)
        return Batch(
            image=crop_and_resize(image, box_B4, flip_B, config.model.image_px),
            token_BT=torch.from_numpy(token_BT),
            prefix_len_B=torch.from_numpy(prefix_len_B),
            supervised_N=torch.from_numpy(np.flatnonzero(supervised_BT)),
            text_len_B=torch.from_numpy(self.tokenizer.lengths(token_BT)),
            num_scored=int((config.model.num_patches - prefix_len_B).sum()),
        )


def loader(batches: TrainBatches, *, first_step: int, pin_memory: bool) -> DataLoader[Batch]:
    """Batches from ``first_step`` on, in order, prepared by ``loader.num_workers`` processes."""
    num_workers = batches.config.loader.num_workers
    return DataLoader(
        batches,
        sampler=range(first_step, len(batches)),
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
    )


def centred_images(images: np.ndarray, out_px: int) -> Tensor:
    """Pictures as evaluation sees them, centre-cropped: uint8 [B, S, S, 3] to float32 [B, 3, P, P]."""
    box_B4 = centre_crops(len(images), images.shape[1])
    return crop_and_resize(torch.from_numpy(images), box_B4, np.zeros(len(images), dtype=bool), out_px)
