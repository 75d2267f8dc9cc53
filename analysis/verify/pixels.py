"""Do predicted held-out patches beat predictions that need no training?

Letters: N images, B images of a chunk, I patches in reading order, P values in a patch.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.analysis.inference.intervals import Estimate
from aimv2.analysis.verify.check import Check, clustered_mean
from aimv2.analysis.verify.trained_run import TrainedRun
from aimv2.config.prefix import prefix_len_at
from aimv2.data.transforms import unnormalise
from aimv2.evaluation.held_out import chunks
from aimv2.evaluation.pictures import completed, unseen, with_contrast
from aimv2.memory.evaluation import images_at_once
from aimv2.model.network import EncoderDecoder
from aimv2.objectives.aimv2 import pixel_targets

FRACTIONS = (0.25, 0.5, 0.75)
NAME = "predicted pixels beat predicting the mean"

Predict = Callable[[TrainedRun, np.ndarray, int], Tensor]


class Errors(NamedTuple):
    """Mean squared error of each image's patches after the prefix, by predictor."""

    model_N: np.ndarray
    mean_N: np.ndarray


class Pixels(NamedTuple):
    """The check, and by prefix fraction the errors and the network's error minus the mean's."""

    check: Check
    errors: dict[float, Errors]
    advantage: dict[float, Estimate]


def predict(run: TrainedRun, rows: np.ndarray, prefix_len: int) -> Tensor:
    """Predict patches 1..I-1 (from 0) of held-out images, each from the true patches before it: [B, I-1, P]."""
    config, model, captions = run.config, run.model, run.pairs.short
    assert isinstance(model, EncoderDecoder)
    image = run.image[rows].to(config.device)
    token_BT, text_len_B = captions.token_NT[rows].to(image.device), captions.text_len_N[rows].to(image.device)
    if config.model.decoder.order == "image_first":
        token_BT = token_BT[:, :0]  # no patch sees them
    prefix_len_B = torch.full((len(rows),), prefix_len, device=image.device)
    with torch.no_grad():
        image_BIE, _ = model(image, token_BT, prefix_len_B, text_len_B)
        predicted: Tensor = model.decoder.pixel_head(image_BIE[:, :-1])
    return predicted


def pixels(run: TrainedRun, predict: Predict = predict) -> Pixels:
    """Compare the pixel loss at three prefixes with two baselines on the same patches.

    The mean predicts, for standardised targets, each patch's own, which is 0 after standardisation; for raw targets the
    best constant patch, the mean patch of these images. Differences are paired over images, with intervals over items.
    """
    if "pixels" not in run.objective.reports:
        return Pixels(Check(NAME, None, f"objective {run.config.objective.name} predicts no pixels"), {}, {})
    errors = {fraction: _errors(run, fraction, predict) for fraction in FRACTIONS}
    weight_N = np.ones(len(run.held_out))
    advantage = {
        fraction: clustered_mean(found.model_N - found.mean_N, weight_N, run.pairs.item_N)
        for fraction, found in errors.items()
    }
    found = "; ".join(
        f"prefix {fraction:g}: {here.model_N.mean():.3f} against {here.mean_N.mean():.3f} for the mean"
        f" (difference {advantage[fraction].text()})"
        for fraction, here in errors.items()
    )
    passes = all(estimate.high < 0 for estimate in advantage.values())
    criterion = "the difference to the mean below 0 with its 95 % interval, at every prefix"
    return Pixels(Check(NAME, passes, f"{len(weight_N):,} held-out images, {found}", criterion), errors, advantage)


def _errors(run: TrainedRun, fraction: float, predict: Predict) -> Errors:
    config = run.config
    prefix_len = prefix_len_at(fraction, config.model.num_patches)
    constant_P: Tensor | float = 0.0
    if config.objective.pixel_targets == "raw":
        constant_P = pixel_targets(run.image.to(config.device), config).mean(dim=(0, 1))
    parts = []
    for rows in chunks(len(run.held_out), images_at_once(config)):
        target_BIP = pixel_targets(run.image[rows].to(config.device), config)
        scored_BIP = target_BIP[:, prefix_len:]
        predicted_BIP = predict(run, rows, prefix_len)[:, prefix_len - 1 :]
        errors = ((guess - scored_BIP).square().mean(dim=(1, 2)) for guess in (predicted_BIP, constant_P))
        parts.append([error_B.double().cpu().numpy() for error_B in errors])
    return Errors(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def render(run: TrainedRun, rows: np.ndarray, predict: Predict = predict) -> dict[str, list[np.ndarray]]:
    """Render some held-out images, uint8 [S, S, 3] each: columns of pictures by title.

    The columns are the image; by prefix, the prefix alone and predictions in place of the rest; and, for standardised
    targets, each patch's mean in place of the rest. A standardised prediction lacks the patch's brightness and
    contrast, so it is rendered with the true patch's, as in MAE.
    """
    config, image = run.config.model, run.image[rows]
    columns = {"image": [unnormalise(one) for one in image]}
    for fraction in FRACTIONS:
        prefix_len = prefix_len_at(fraction, config.num_patches)
        rest_BIP = with_contrast(
            predict(run, rows, prefix_len).cpu()[:, prefix_len - 1 :], image, prefix_len, run.config
        )
        columns[f"prefix\n{fraction:g}"] = completed(image, unseen(config), prefix_len, config)
        columns[f"predicted\nafter {fraction:g}"] = completed(image, rest_BIP, prefix_len, config)
    if run.config.objective.pixel_targets == "standardised":
        prefix_len = prefix_len_at(FRACTIONS[0], config.num_patches)
        mean_BIP = with_contrast(torch.zeros(()), image, prefix_len, run.config)
        columns[f"means alone\nafter {FRACTIONS[0]:g}"] = completed(image, mean_BIP, prefix_len, config)
    return columns
