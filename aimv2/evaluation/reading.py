"""Training of a reader on texts about images that are encoded already. Letters: N images, M texts, B of a step."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import OptimizerConfig
from aimv2.evaluation.features import on_device
from aimv2.evaluation.held_out import Captions
from aimv2.memory.evaluation import texts_at_once
from aimv2.model.network import CaptionReader
from aimv2.objectives.losses import text_loss
from aimv2.training.device import autocast
from aimv2.training.optimizer import build_optimizer, learning_rate

WARMUP = 0.1  # of the steps


def fit(
    reader: CaptionReader,
    features_NID: Tensor,
    texts: Captions,
    batches: Sequence[np.ndarray],
    config: RunConfig,
    *,
    image_of_M: np.ndarray | None = None,
    at_once: int | None = None,
) -> None:
    """Train a reader to predict the supervised tokens.

    Args:
        features_NID: of the images, from the frozen encoder, in any place and precision.
        batches: rows of the texts of each step.
        config: the reader's learning rate, and how the device computes.
        image_of_M: int64, the row of each text's image; None is its own. An image is read once in a step, whatever the
            number of its texts there.
        at_once: texts whose gradients are computed at once and added to those of the step; None is ``texts_at_once``.
    """
    image_of_M = np.arange(len(texts)) if image_of_M is None else image_of_M
    schedule = OptimizerConfig(peak_lr=config.evaluation.reader.peak_lr, warmup_fraction=WARMUP)
    optimizer, rate = build_optimizer(reader, schedule), learning_rate(schedule)
    device, at_once = config.device, at_once or texts_at_once(config)
    reader.train()
    for step, row_B in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate(step / len(batches))
        optimizer.zero_grad(set_to_none=True)
        num_tokens = int(texts.supervised_NT[row_B].sum())
        for some_B in np.split(row_B, range(at_once, len(row_B), at_once)):
            longest = int(texts.num_read_N[some_B].max())
            token_BT = texts.token_NT[some_B, :longest].to(device)
            place_S = texts.supervised_NT[some_B, :longest].flatten().nonzero().squeeze(1).to(device)
            image_A, number_B = np.unique(image_of_M[some_B], return_inverse=True)
            feature_AID = on_device(features_NID[image_A], config)
            target_S = token_BT.flatten().index_select(0, place_S)
            with autocast(config):
                images = reader.decoder.read_image(feature_AID).rows(torch.from_numpy(number_B).to(device))
                text_BTE = reader.decoder.read_captions(token_BT[:, :-1], images)
                text_SE = text_BTE.flatten(0, 1).index_select(0, place_S)
                loss = text_loss(text_SE, reader.decoder.text_head.weight, target_S, count=num_tokens)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), schedule.clip_norm)
        optimizer.step()
