"""Experiment 1b: what the trained network's masks let through.

Letters: B images, I patches in reading order, T caption tokens, S = 1 + T text positions, L positions of the decoder's
sequence, D and E widths. A position is perturbed, and whatever must not see it has to stay the same bit by bit.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2 import address
from aimv2.data.batches import Batch
from aimv2.model.decoder import Decoder
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.positions import reading_order
from aimv2.objectives.base import visible_prefix
from analysis.verify.line import Line, judged, not_applicable
from analysis.verify.subject import Subject

NUM_STEPS = 8  # first training steps whose batches lend images, so that per='batch' shows several lengths
IMAGES_PER_STEP = 4
MOST_PLACES = 64  # positions perturbed in every image, evenly spread where there are more
ENCODER_TITLE = "the encoder's mask leaks nothing"
DECODER_TITLE = "the decoder's mask leaks nothing"


class Images(NamedTuple):
    """What is read of a few images of a batch, as in ``Batch``."""

    image: Tensor
    token_BT: Tensor
    prefix_len_B: Tensor
    text_len_B: Tensor


class Reach(NamedTuple):
    """What perturbing positions did.

    Attributes:
        num_pairs: (image, position) pairs tried.
        largest_leak: largest change of a value where there must be none.
        num_unreached: outputs that had to change and did not.
    """

    num_pairs: int
    largest_leak: float
    num_unreached: int

    @property
    def is_sound(self) -> bool:
        return self.num_pairs > 0 and self.largest_leak == 0 and self.num_unreached == 0

    def __add__(self, other: "Reach") -> "Reach":  # type: ignore[override]
        return Reach(
            self.num_pairs + other.num_pairs,
            # Not max(), which may drop a NaN.
            float(np.maximum(self.largest_leak, other.largest_leak)),
            self.num_unreached + other.num_unreached,
        )


NOTHING = Reach(0, 0.0, 0)


def masks(subject: Subject) -> list[Line]:
    """A line for the encoder and one for the decoder, on images of the first training batches."""
    parts = [
        _first_images(subject.batches[step], subject.config.device)
        for step in range(min(NUM_STEPS, len(subject.batches)))
    ]
    return [_encoder_line(subject, parts), _decoder_line(subject, parts)]


def _first_images(batch: Batch, device: str) -> Images:
    return Images(**{name: getattr(batch, name)[:IMAGES_PER_STEP].to(device) for name in Images._fields})


def _encoder_line(subject: Subject, parts: list[Images]) -> Line:
    """Passes if no output before a perturbed patch outside the prefix changes at all, and all outputs that may see the
    patch do change: every one if it lies in the prefix, those from it on otherwise."""
    if subject.config.model.encoder.attention == "bidirectional":
        return not_applicable("1b", ENCODER_TITLE, "bidirectional attention in training hides nothing")
    reach = sum((encoder_reach(subject, part) for part in parts), NOTHING)
    attention = subject.config.model.encoder.attention
    found = f"{_found(reach, 'image, patch')}; {attention} attention, {subject.config.model.patch_order} order"
    return judged("1b", ENCODER_TITLE, reach.is_sound, found, "leak 0, and every output that may see the patch changes")


def _decoder_line(subject: Subject, parts: list[Images]) -> Line:
    """Passes if perturbing an image feature or a caption token changes nothing before it in the sequence, and does
    change its own position and all after it. So with images first no caption token reaches a patch, with texts first no
    patch a caption; there the padding behind a caption must not reach patches either. In a parallel caption no token
    reaches anything, and features reach what they do in others.
    """
    if not isinstance(subject.model, EncoderDecoder):
        return not_applicable("1b", DECODER_TITLE, f"objective {subject.config.objective.name} has no decoder")
    reach = sum((decoder_reach(subject, subject.model, part) for part in parts), NOTHING)
    order = subject.config.model.decoder.order.replace("_", " ")
    found = f"{_found(reach, 'image, position')}; {order}"
    return judged("1b", DECODER_TITLE, reach.is_sound, found, "leak 0, and every position that may see it changes")


def _found(reach: Reach, what: str) -> str:
    return (
        f"{reach.num_pairs:,} ({what}) pairs, largest leak {reach.largest_leak:.3g},"
        f" {reach.num_unreached:,} expected changes missing"
    )


@torch.no_grad()
def encoder_reach(subject: Subject, batch: Images) -> Reach:
    """Perturb patches of the images under training's mask."""
    config, encoder = subject.config.model, subject.model.encoder
    prefix_len_B = visible_prefix(config, batch.prefix_len_B)
    assert prefix_len_B is not None, "bidirectional attention has nothing to hide"
    before_BID = encoder(batch.image, prefix_len_B)
    raster = reading_order(config.patch_order, config.grid) or range(config.num_patches)
    pos_I = torch.arange(config.num_patches, device=before_BID.device)
    reach = NOTHING
    for place in _places(config.num_patches):
        image = _perturbed_patch(batch.image, raster[place], config.patch_px)
        change_BI = (encoder(image, prefix_len_B) - before_BID).abs().amax(dim=-1)
        may_see_BI = (pos_I >= place) | (place < prefix_len_B)[:, None]
        reach += _compared(change_BI, hidden_BL=~may_see_BI)
    return reach


@torch.no_grad()
def decoder_reach(subject: Subject, model: EncoderDecoder, batch: Images) -> Reach:
    """Perturb encoder features and caption tokens one after the other."""
    config = subject.config.model
    features_BID = model.encoder(batch.image, visible_prefix(config, batch.prefix_len_B))
    is_text_first = config.decoder.order == "text_first"

    def run(features: Tensor, token_BT: Tensor, **options: Tensor) -> Tensor:
        image_BIE, text_BSE = model.decoder(features, token_BT, batch.text_len_B, **options)
        return torch.cat([text_BSE, image_BIE] if is_text_first else [image_BIE, text_BSE], dim=1)

    reads_text = hasattr(model.decoder, "text_head")
    token_BT = batch.token_BT if reads_text else batch.token_BT[:, :0]
    before_BLE = run(features_BID, token_BT)
    pos_L = torch.arange(before_BLE.shape[1], device=before_BLE.device)
    num_text = before_BLE.shape[1] - config.num_patches  # BOS and the tokens
    first_patch, bos = (num_text, 0) if is_text_first else (0, config.num_patches)
    befores: list[tuple[Tensor, dict[str, Tensor]]] = [(before_BLE, {})]
    if isinstance(model.decoder, Decoder) and model.decoder.mask_token is not None:
        parallel = {"is_parallel_B": torch.ones(len(token_BT), dtype=torch.bool, device=token_BT.device)}
        befores.append((run(features_BID, token_BT, **parallel), parallel))
    reach = NOTHING
    for place in _places(config.num_patches):
        features = features_BID.clone()
        features[:, place] += _noise(features_BID[:, place], place)
        for unperturbed_BLE, options in befores:
            change_BL = (run(features, token_BT, **options) - unperturbed_BLE).abs().amax(dim=-1)
            reach += _compared(change_BL, hidden_BL=(pos_L < first_patch + place).expand_as(change_BL))
    for place in _places(token_BT.shape[1]):
        token = token_BT.clone()
        token[:, place] = (token[:, place] + 1) % config.vocab_size
        for unperturbed_BLE, options in befores:
            change_BL = (run(features_BID, token, **options) - unperturbed_BLE).abs().amax(dim=-1)
            hidden_BL = (pos_L < bos + 1 + place).expand_as(change_BL)
            if is_text_first:
                hidden_BL = hidden_BL | ((place >= batch.text_len_B)[:, None] & (pos_L >= first_patch))
            if options:  # the mask vector stands in for every token
                hidden_BL = torch.ones_like(hidden_BL)
            reach += _compared(change_BL, hidden_BL=hidden_BL)
    return reach


def _compared(change_BL: Tensor, *, hidden_BL: Tensor) -> Reach:
    """Changes against where there must be none; everywhere else there must be one."""
    leak = float(torch.where(hidden_BL, change_BL, 0).max())
    return Reach(len(change_BL), leak, int((~hidden_BL & ~(change_BL > 0)).sum()))


def _places(num_positions: int) -> list[int]:
    """All positions, or ``MOST_PLACES`` spread evenly over them, first and last included."""
    return np.unique(np.linspace(0, num_positions - 1, min(num_positions, MOST_PLACES)).round().astype(int)).tolist()


def _perturbed_patch(image: Tensor, raster_place: int, patch_px: int) -> Tensor:
    """The images [B, 3, S, S] with noise of deviation 1 on one patch."""
    columns = image.shape[-1] // patch_px
    top, left = raster_place // columns * patch_px, raster_place % columns * patch_px
    changed = image.clone()
    cell = changed[:, :, top : top + patch_px, left : left + patch_px]
    cell += _noise(cell, raster_place)
    return changed


def _noise(like: Tensor, place: int) -> Tensor:
    """Normal noise that depends on the place alone."""
    drawn = address.generator(seed=0, purpose="verify perturbation", sample_id=place).standard_normal(like.shape)
    return torch.from_numpy(drawn).to(like)
