"""Experiment 3a: held-out patches that the trained network predicts, against what needs no training.

Letters: N images, B images of a chunk, I patches in reading order, P values in a patch.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.data.transforms import unnormalise
from aimv2.evaluation.losses import chunks
from aimv2.losses import PIXEL_EPS, patchify
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.positions import in_reading_order, inverse, reading_order
from aimv2.objectives import objective
from aimv2.objectives.terms import pixel_targets
from aimv2.prefix import prefix_len_at
from analysis.verify.line import Interval, Line, clustered_mean, judged, not_applicable
from analysis.verify.subject import Subject

FRACTIONS = (0.25, 0.5, 0.75)
TITLE = "predicted pixels beat predicting the mean"
UNSEEN = 170  # grey level of patches outside the prefix


class Errors(NamedTuple):
    """Mean squared error of each image's patches after the prefix, by what predicts them."""

    model_N: np.ndarray
    mean_N: np.ndarray
    previous_N: np.ndarray


class Pixels(NamedTuple):
    """The line, the errors by prefix fraction, and the network's error minus the mean's, with its interval."""

    line: Line
    errors: dict[float, Errors]
    advantage: dict[float, Interval]


def pixels(subject: Subject) -> Pixels:
    """Pixel loss at three prefixes against two baselines on the same patches.

    Predicting the mean: of standardised targets each patch's own, which is 0 after standardisation; of raw targets the
    best constant patch, the mean patch of these images. Repeating the previous patch in reading order is told, not
    asked for. Passes if the network's error minus the mean's is below 0 at all three prefixes: paired over images, with
    the whole 95 % interval over concepts below 0.
    """
    config = subject.config
    if "pixels" not in objective(config.objective.name).reports:
        return Pixels(not_applicable("3a", TITLE, f"objective {config.objective.name} predicts no pixels"), {}, {})
    errors = {fraction: _errors(subject, fraction) for fraction in FRACTIONS}
    weight_N = np.ones(len(subject.held_out))
    advantage = {
        fraction: clustered_mean(found.model_N - found.mean_N, weight_N, subject.concept_N)
        for fraction, found in errors.items()
    }
    found = "; ".join(
        f"prefix {fraction:g}: {here.model_N.mean():.3f} against {here.mean_N.mean():.3f} for the mean"
        f" (difference {advantage[fraction]}) and {here.previous_N.mean():.3f} for the previous patch"
        for fraction, here in errors.items()
    )
    passes = all(interval.high < 0 for interval in advantage.values())
    criterion = "the difference to the mean below 0 with its 95 % interval, at every prefix"
    line = judged("3a", TITLE, passes, f"{len(weight_N):,} held-out images, {found}", criterion)
    return Pixels(line, errors, advantage)


@torch.no_grad()
def predict(subject: Subject, rows: np.ndarray, prefix_len: int) -> Tensor:
    """Predictions for patches 1..I-1 (from 0) of held-out images [B, I-1, P], each from the true patches before it."""
    config, model, data = subject.config, subject.model, subject.names
    assert isinstance(model, EncoderDecoder)
    image = data.image[rows].to(config.device)
    token_BT, text_len_B = data.token_NT[rows].to(image.device), data.text_len_N[rows].to(image.device)
    if config.model.decoder.order == "image_first":
        token_BT = token_BT[:, :0]  # no patch sees them
    prefix_len_B = torch.full((len(rows),), prefix_len, device=image.device)
    image_BIE, _ = model(image, token_BT, prefix_len_B, text_len_B)
    predicted: Tensor = model.decoder.pixel_head(image_BIE[:, :-1])
    return predicted


def _errors(subject: Subject, fraction: float) -> Errors:
    config, data = subject.config, subject.names
    prefix_len = prefix_len_at(fraction, config.model.num_patches)
    constant_P: Tensor | float = _mean_patch(subject) if config.objective.pixel_targets == "raw" else 0.0
    parts = []
    for rows in chunks(len(data)):
        target_BIP = pixel_targets(data.image[rows].to(config.device), config)
        scored_BIP = target_BIP[:, prefix_len:]
        predicted_BIP = predict(subject, rows, prefix_len)[:, prefix_len - 1 :]
        guesses = (predicted_BIP, constant_P, target_BIP[:, prefix_len - 1 : -1])
        parts.append([(guess - scored_BIP).square().mean(dim=(1, 2)).double().cpu().numpy() for guess in guesses])
    return Errors(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _mean_patch(subject: Subject) -> Tensor:
    data, config = subject.names, subject.config
    total_P = torch.zeros(config.model.patch_dim, device=config.device)
    for rows in chunks(len(data)):
        total_P += pixel_targets(data.image[rows].to(config.device), config).sum(dim=(0, 1))
    return total_P / (len(data) * config.model.num_patches)


class Painting(NamedTuple):
    """Pictures of one held-out image, uint8 [S, S, 3]: the image; by prefix fraction the prefix alone, and the
    predictions in place of the rest; and, for standardised targets, each patch's mean in place of the rest."""

    truth: np.ndarray
    seen: dict[float, np.ndarray]
    painted: dict[float, np.ndarray]
    means: dict[float, np.ndarray]


def paint(subject: Subject, rows: np.ndarray) -> list[Painting]:
    """Pictures of what the network predicts.

    A standardised prediction lacks the patch's brightness and contrast, so it gets the true patch's, as MAE paints
    them. Every patch is predicted from the true patches before it, not from predictions.
    """
    config = subject.config.model
    image = subject.names.image[rows]
    true_BIP = in_reading_order(patchify(image, config.patch_px), config.patch_order, config.grid)
    mean_BI1 = true_BIP.mean(dim=-1, keepdim=True)
    is_standardised = subject.config.objective.pixel_targets == "standardised"
    pictures = [Painting(unnormalise(one), {}, {}, {}) for one in image]
    for fraction in FRACTIONS:
        prefix_len = prefix_len_at(fraction, config.num_patches)
        predicted_BIP = predict(subject, rows, prefix_len).cpu()[:, prefix_len - 1 :]
        if is_standardised:
            deviation_BI1 = (true_BIP.var(dim=-1, keepdim=True) + PIXEL_EPS).sqrt()
            predicted_BIP = predicted_BIP * deviation_BI1[:, prefix_len:] + mean_BI1[:, prefix_len:]
        prefix_BIP = true_BIP[:, :prefix_len]
        painted = _images(torch.cat([prefix_BIP, predicted_BIP], dim=1), subject)
        flat_BIP = mean_BI1[:, prefix_len:].expand(-1, -1, config.patch_dim)
        means = _images(torch.cat([prefix_BIP, flat_BIP], dim=1), subject)
        is_seen_BIP = (torch.arange(config.num_patches) < prefix_len)[None, :, None].expand_as(true_BIP)
        is_seen = unpatchify(_in_raster(is_seen_BIP, subject), config.patch_px)[:, 0].numpy()
        for number, picture in enumerate(pictures):
            picture.seen[fraction] = np.where(is_seen[number][..., None], picture.truth, UNSEEN).astype(np.uint8)
            picture.painted[fraction] = painted[number]
            if is_standardised:
                picture.means[fraction] = means[number]
    return pictures


def unpatchify(patch_BIP: Tensor, patch_px: int) -> Tensor:
    """Patches in raster order [B, I, P] back to images [B, 3, S, S]."""
    grid = round(patch_BIP.shape[1] ** 0.5)
    cells = patch_BIP.view(len(patch_BIP), grid, grid, patch_px, patch_px, 3)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(patch_BIP), 3, grid * patch_px, grid * patch_px)


def _in_raster(patch_BIP: Tensor, subject: Subject) -> Tensor:
    places = reading_order(subject.config.model.patch_order, subject.config.model.grid)
    return patch_BIP if places is None else patch_BIP[:, torch.from_numpy(inverse(places))]


def _images(patch_BIP: Tensor, subject: Subject) -> list[np.ndarray]:
    images = unpatchify(_in_raster(patch_BIP, subject), subject.config.model.patch_px)
    return [unnormalise(image) for image in images]
