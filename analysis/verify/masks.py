"""Do the masks of the trained network leak? A position is perturbed; what must not see it has to stay bitwise equal.

Letters: B images, I patches in reading order, T caption tokens, S = 1 + T text positions, L positions of the decoder's
sequence, D and E widths.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.analysis.verify.check import Check
from aimv2.analysis.verify.trained_run import TrainedRun
from aimv2.base import address
from aimv2.data.batches.batch import Batch
from aimv2.model.decoder import Decoder
from aimv2.model.network import EncoderDecoder
from aimv2.model.positions import reading_order
from aimv2.objectives.base import visible_prefix

NUM_STEPS = 8  # first training steps whose images are used, so that per='batch' shows several prefix lengths
IMAGES_PER_STEP = 4
MAX_PLACES = 64  # positions perturbed per image, evenly spread if there are more
ENCODER = "the encoder's mask leaks nothing"
DECODER = "the decoder's mask leaks nothing"


# The effect of perturbing one position of the images: the largest change where there must be none, and the number of
# outputs that had to change and did not.
Reach = tuple[float, int]


class Images(NamedTuple):
    """The first images of some batches, with the fields of ``Batch`` that are read here."""

    image: Tensor
    token_BT: Tensor
    prefix_len_B: Tensor
    text_len_B: Tensor


def masks(run: TrainedRun) -> list[Check]:
    """Check the encoder's and the decoder's mask on images of the first training batches."""
    batches = [run.batches[step] for step in range(min(NUM_STEPS, len(run.batches)))]
    images = first_images(batches, run.config.device)
    return [_check_encoder(run, images), _check_decoder(run, images)]


def first_images(batches: Sequence[Batch], device: str) -> Images:
    """Return the first images of each batch."""
    parts = {name: [getattr(batch, name)[:IMAGES_PER_STEP] for batch in batches] for name in Images._fields}
    return Images(**{name: torch.cat(values).to(device) for name, values in parts.items()})


@torch.no_grad()
def _check_encoder(run: TrainedRun, images: Images) -> Check:
    """Perturb each patch under the mask of training. Outputs before a patch outside the prefix must not change, and all
    outputs that may see the patch must: every output if it lies in the prefix, those from it on otherwise."""
    config, encoder = run.config.model, run.model.encoder
    prefix_len_B = visible_prefix(config, images.prefix_len_B)
    if prefix_len_B is None:
        return Check(ENCODER, None, "bidirectional attention in training hides nothing")
    before_BID = encoder(images.image, prefix_len_B)
    raster = reading_order(config.patch_order, config.grid) or range(config.num_patches)
    pos_I = torch.arange(config.num_patches, device=before_BID.device)
    reaches = []
    for place in _places(config.num_patches):
        image = _with_noise_on_patch(images.image, raster[place], config.patch_px)
        may_see_BI = (pos_I >= place) | (place < prefix_len_B)[:, None]
        reaches.append(_reach(before_BID, encoder(image, prefix_len_B), hidden_BL=~may_see_BI))
    setting = f"{config.encoder.attention} attention, {config.patch_order} order"
    return _judged(ENCODER, reaches, f"{len(images.image) * len(reaches):,} (image, patch) pairs", "output", setting)


def _check_decoder(run: TrainedRun, images: Images) -> Check:
    """Perturb image features and caption tokens. Nothing before them in the sequence may change; their own position and
    all after it must.

    So with images first no caption token reaches a patch, and with texts first no patch reaches a caption; there the
    padding behind a caption must not reach patches either. In a parallel caption no token reaches anything, and
    features reach what they do in others.
    """
    if not isinstance(run.model, EncoderDecoder):
        return Check(DECODER, None, f"objective {run.config.objective.name} has no decoder")
    reaches = list(_decoder_reach(run, run.model, images))
    count = f"{len(images.image) * len(reaches):,} (image, position) pairs"
    return _judged(DECODER, reaches, count, "position", run.config.model.decoder.order.replace("_", " "))


def _judged(name: str, reaches: list[Reach], count: str, output: str, setting: str) -> Check:
    leaks, num_unreached = zip(*reaches, strict=True)
    largest = float(np.max(leaks))  # not max(), which may drop a NaN
    found = f"{count}, largest leak {largest:.3g}, {sum(num_unreached):,} expected changes missing; {setting}"
    criterion = f"leak 0, and every {output} that may see the change changes"
    return Check(name, largest == 0 and not any(num_unreached), found, criterion)


@torch.no_grad()
def _decoder_reach(run: TrainedRun, model: EncoderDecoder, images: Images) -> Iterator[Reach]:
    """Perturb each encoder feature and each caption token; if the decoder can predict in parallel, in that mode too."""
    config, decoder = run.config.model, model.decoder
    features_BID = model.encoder(images.image, visible_prefix(config, images.prefix_len_B))
    token_BT = images.token_BT if hasattr(decoder, "text_head") else images.token_BT[:, :0]
    is_text_first = config.decoder.order == "text_first"
    num_text = 1 + token_BT.shape[1] if hasattr(decoder, "text_head") else 0  # BOS and the tokens
    first_patch, bos = (num_text, 0) if is_text_first else (0, config.num_patches)
    pos_L = torch.arange(config.num_patches + num_text, device=token_BT.device)

    def decode(features: Tensor, tokens: Tensor, options: dict[str, Tensor]) -> Tensor:
        image_BIE, text_BSE = decoder(features, tokens, images.text_len_B, **options)
        return torch.cat([text_BSE, image_BIE] if is_text_first else [image_BIE, text_BSE], dim=1)

    modes: list[dict[str, Tensor]] = [{}]
    if isinstance(decoder, Decoder) and decoder.mask_token is not None:
        modes.append({"is_parallel_B": torch.ones(len(token_BT), dtype=torch.bool, device=token_BT.device)})
    for options in modes:
        before_BLE = decode(features_BID, token_BT, options)
        for place in _places(config.num_patches):
            features = features_BID.clone()
            features[:, place] += _noise(features_BID[:, place], place)
            hidden_BL = (pos_L < first_patch + place).expand(len(features), -1)
            yield _reach(before_BLE, decode(features, token_BT, options), hidden_BL)
        for place in _places(token_BT.shape[1]):
            tokens = token_BT.clone()
            tokens[:, place] = (tokens[:, place] + 1) % config.vocab_size
            hidden_BL = (pos_L < bos + 1 + place).expand(len(tokens), -1)
            if is_text_first:  # padding is hidden from the patches
                hidden_BL = hidden_BL | ((place >= images.text_len_B)[:, None] & (pos_L >= first_patch))
            if options:  # the mask vector replaces every token
                hidden_BL = torch.ones_like(hidden_BL)
            yield _reach(before_BLE, decode(features_BID, tokens, options), hidden_BL)


def _reach(before_BLD: Tensor, after_BLD: Tensor, hidden_BL: Tensor) -> Reach:
    """Compare outputs: no change where the perturbation is hidden, a change everywhere else."""
    change_BL = (after_BLD - before_BLD).abs().amax(dim=-1)
    leak = float(torch.where(hidden_BL, change_BL, 0).max())
    return leak, int((~hidden_BL & ~(change_BL > 0)).sum())


def _places(num_positions: int) -> list[int]:
    """Return all positions, or ``MAX_PLACES`` spread evenly over them, first and last included."""
    places = np.linspace(0, num_positions - 1, min(num_positions, MAX_PLACES)).round()
    return [int(place) for place in np.unique(places)]


def _with_noise_on_patch(image: Tensor, raster_place: int, patch_px: int) -> Tensor:
    """Return the images [B, 3, S, S] with noise of standard deviation 1 on one patch."""
    top, left = (patch_px * index for index in divmod(raster_place, image.shape[-1] // patch_px))
    changed = image.clone()
    cell = changed[:, :, top : top + patch_px, left : left + patch_px]
    cell += _noise(cell, raster_place)
    return changed


def _noise(like: Tensor, place: int) -> Tensor:
    """Return normal noise that depends on the place alone."""
    drawn = address.generator(seed=0, purpose="verify perturbation", sample_id=place).standard_normal(like.shape)
    return torch.from_numpy(drawn).to(like)
