"""Runs at native resolution, batches of images of different grids, and one image at a time without padding."""

import torch
import torch.nn.functional as F

from aimv2.config.program import replaced
from aimv2.data.batches.batch import Share
from aimv2.data.batches.training import TrainBatches
from aimv2.objectives.base import visible_prefix
from aimv2.objectives.losses import patchify, standardise

AREAS = (8, 16, 32, 64)
# The tiny run's patches are 4 px, and its batch 8 images of 16 patches.
NATIVE = {"native.areas": AREAS, "model.encoder.positions": "sincos", "augment.min_scale": 0.3}


def at_native(config, **values):
    """Return the run at native resolution, with crops of different aspect ratios."""
    return replaced(config, NATIVE | values)


def batch_of_area(config, pairs, area, rank=None):
    """Return a training batch of an area, by trying steps; the run needs some."""
    batches = TrainBatches(config, pairs.train, pairs.tokenizer, rank)
    found = next(batch for batch in map(batches.__getitem__, range(len(batches))) if batch.num_patches == area)
    return found._replace(share=Share()) if rank is None else found


def own_image(batch, row, patch_px):
    """Return an image of a batch without padding: [1, 3, height, width]."""
    rows, columns = batch.grid_B2[row].tolist()
    image = torch.empty(1, 3, rows * patch_px, columns * patch_px, dtype=batch.image.dtype)
    for number in range(rows * columns):
        top, left = number // columns * patch_px, number % columns * patch_px
        patch = batch.image[row, :, :, number * patch_px : (number + 1) * patch_px]
        image[0, :, top : top + patch_px, left : left + patch_px] = patch
    return image


def losses_one_by_one(model, batch, config):
    """Return the text and the pixel loss of a batch by a loop over its images, each at its own resolution."""
    nats, errors = [], []
    T = batch.token_BT.shape[1]
    for row, prefix in enumerate(batch.prefix_len_B.tolist()):
        image, tokens = own_image(batch, row, config.model.patch_px), batch.token_BT[row : row + 1]
        visible = visible_prefix(config.model, torch.tensor([prefix]))
        patches, text = model(image, tokens, visible)
        target = standardise(patchify(image, config.model.patch_px))[0]
        predicted = model.decoder.pixel_head(patches)[0]
        errors += [(predicted[i - 1] - target[i]).square().mean() for i in range(prefix, len(target))]
        logits = model.decoder.text_head(text)[0]
        own = [place % T for place in batch.supervised_N.tolist() if place // T == row]
        nats += [F.cross_entropy(logits[place], tokens[0, place]) for place in own]
    return torch.stack(nats).mean(), torch.stack(errors).mean()
