"""Held-out losses. Letters: B images, T caption tokens, I patches."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import Pairs
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import centred_images
from aimv2.losses import pixel_loss
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.objectives.aimv2 import pixel_targets
from aimv2.prefix import prefix_len_at
from aimv2.training.device import autocast

EVAL_BATCH = 256


@dataclass(frozen=True)
class HeldOut:
    """Held-out pairs, prepared once."""

    image: Tensor  # network inputs, float32 [N, 3, P, P]
    token_NT: Tensor  # int64
    supervised_NT: Tensor  # bool, True where a token is predicted
    text_len_N: Tensor  # int64, tokens up to and including end-of-text
    num_bytes: int  # that the supervised tokens spell

    def __len__(self) -> int:
        return len(self.image)

    def inputs(self, rows: np.ndarray, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, tokens and text lengths of some pairs, on the device."""
        return self.image[rows].to(device), self.token_NT[rows].to(device), self.text_len_N[rows].to(device)


def prepare_pairs(pairs: Pairs, tokenizer: CaptionTokenizer, config: RunConfig, *, caption: str) -> HeldOut:
    """Return centre crops of the pairs with one of their captions, ``name`` or ``description``."""
    captions, num_tokens = pairs.table[caption].tolist(), config.model.max_text_tokens
    token_NT = tokenizer.encode(captions, num_tokens)
    supervise_eos = config.objective.supervise_eos
    return HeldOut(
        image=torch.cat([centred_images(pairs.images(rows), config.model.image_px) for rows in chunks(len(pairs))]),
        token_NT=torch.from_numpy(token_NT),
        supervised_NT=torch.from_numpy(tokenizer.supervised(token_NT, supervise_eos=supervise_eos)),
        text_len_N=torch.from_numpy(tokenizer.lengths(token_NT)),
        num_bytes=tokenizer.num_bytes(captions, num_tokens),
    )


@dataclass(frozen=True)
class CaptionLoss:
    """Summed cross-entropy of captions, with their tokens and bytes."""

    nats: float
    num_tokens: int
    num_bytes: int

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.num_tokens

    @property
    def bits_per_byte(self) -> float:
        """Return the loss per byte of the cleaned captions, which is comparable between tokenizers."""
        return self.nats / math.log(2) / self.num_bytes

    def __add__(self, other: "CaptionLoss") -> "CaptionLoss":
        return CaptionLoss(self.nats + other.nats, self.num_tokens + other.num_tokens, self.num_bytes + other.num_bytes)


@torch.no_grad()
def caption_loss(
    model: EncoderDecoder, data: HeldOut, config: RunConfig, *, is_causal: bool = False, batch_size: int = EVAL_BATCH
) -> CaptionLoss:
    """Return the cross-entropy of the supervised caption tokens, teacher-forced.

    Args:
        batch_size: pairs in a forward pass.
        is_causal: use causal attention in the encoder (a prefix of one patch) instead of full attention.
    """
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    for rows in chunks(len(data), batch_size):
        image, token_BT, text_len_B = data.inputs(rows, config.device)
        place_N = data.supervised_NT[rows].flatten().nonzero().squeeze(1).to(config.device)
        prefix_len_B = torch.ones_like(text_len_B) if is_causal else None
        with autocast(config):
            _, text_BTE = model(image, token_BT, prefix_len_B, text_len_B)
            logits_NV = model.decoder.text_head(text_BTE[:, :-1].flatten(0, 1).index_select(0, place_N))
        target_N = token_BT.flatten().index_select(0, place_N)
        total += F.cross_entropy(logits_NV.float(), target_N, reduction="sum").double().cpu()
    return CaptionLoss(float(total), int(data.supervised_NT.sum()), data.num_bytes)


@torch.no_grad()
def pixel_loss_at(model: EncoderDecoder, data: HeldOut, fraction: float, config: RunConfig) -> float:
    """Return the mean squared error of the pixel targets, with the same prefix length for all images.

    All arms thus solve the same task. With a text-first decoder patches are predicted with the caption. The loss is
    not defined under full attention, which leaves no patch to predict.

    Args:
        fraction: prefix length as a fraction of the image.
    """
    model.eval()
    losses, sizes = [], []
    for rows in chunks(len(data)):
        image, token_BT, text_len_B = data.inputs(rows, config.device)
        prefix_len_B = torch.full_like(text_len_B, prefix_len_at(fraction, config.model.num_patches))
        if config.model.decoder.order == "image_first":
            token_BT = token_BT[:, :0]  # no patch sees them
        with autocast(config):
            image_BIE, _ = model(image, token_BT, prefix_len_B, text_len_B)
            predicted_BIP = model.decoder.pixel_head(image_BIE)
        losses.append(float(pixel_loss(predicted_BIP, pixel_targets(image, config), prefix_len_B)))
        sizes.append(len(image))
    return float(np.average(losses, weights=sizes))


def chunks(num_rows: int, size: int = EVAL_BATCH) -> list[np.ndarray]:
    """Return the row numbers of each evaluation batch."""
    return [np.arange(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
