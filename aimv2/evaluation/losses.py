"""Losses on held-out pairs, image by image. Letters: N pairs, B images of a batch, T caption tokens, I patches."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.config.prefix import prefix_len_at
from aimv2.config.run_config import RunConfig
from aimv2.evaluation.held_out import Captions, HeldOutPairs, chunks, network_inputs
from aimv2.memory.evaluation import images_at_once
from aimv2.model.network import CaptionReader, EncoderDecoder
from aimv2.objectives.aimv2 import pixel_targets
from aimv2.training.device import autocast
from aimv2.training.world import ALONE, World


def nats(logits_MV: Tensor, target_M: Tensor) -> Tensor:
    return F.cross_entropy(logits_MV, target_M, reduction="none")


def misses(logits_MV: Tensor, target_M: Tensor) -> Tensor:
    """Return 1 where another token than the true one is the likeliest, else 0: float32 [M]."""
    return (logits_MV.argmax(dim=1) != target_M).float()


@torch.no_grad()
def token_nats(
    model: EncoderDecoder | CaptionReader,
    features_NID: Tensor,
    captions: Captions,
    config: RunConfig,
    *,
    image_of_N: np.ndarray | None = None,
    batch_size: int | None = None,
    world: World = ALONE,
    loss: Callable[[Tensor, Tensor], Tensor] = nats,
) -> Tensor:
    """Return the cross-entropy of each token of the captions, teacher-forced: float32 [N, T] on the CPU.

    Tokens that are not supervised have 0. Each image is read once, whatever the number of its captions. Captions of
    similar length go together, so that little padding is computed.

    Args:
        features_NID: of the images, in any place and precision; ranks each take some of them.
        image_of_N: the image that each caption is given, by row; None is its own.
        batch_size: images that the decoder reads at once, and captions; None is ``images_at_once``.
        loss: ``misses`` in place of the cross-entropy.
    """
    model.eval()
    nats_NT = torch.zeros(captions.token_NT.shape)
    image_N = torch.arange(len(captions)) if image_of_N is None else torch.from_numpy(image_of_N)
    order_N = captions.num_read_N.argsort(stable=True)
    order_N = order_N[captions.num_read_N[order_N] > 0]
    batch_size = batch_size or images_at_once(config)
    starts = range(0, len(features_NID), batch_size)
    rows_of = [order_N[(image_N[order_N] >= start) & (image_N[order_N] < start + batch_size)] for start in starts]

    def of_images(number: int) -> Tensor:
        start, row_M = starts[number], rows_of[number]
        feature_BID = features_NID[start : start + batch_size].to(config.device).float()
        with autocast(config):
            read = model.decoder.read_image(feature_BID)
        nats_MT = torch.zeros(len(row_M), nats_NT.shape[1])
        done = 0
        for row_B in row_M.split(batch_size) if len(row_M) else ():  # an empty tensor splits into itself
            longest = int(captions.num_read_N[row_B[-1]])
            target_BT = captions.token_NT[row_B, :longest].to(config.device)
            supervised_BT = captions.supervised_NT[row_B, :longest]
            place_M = supervised_BT.flatten().nonzero().squeeze(1).to(config.device)
            with autocast(config):
                # The state after all tokens but the last predicts the last one.
                images = read.rows((image_N[row_B] - start).to(config.device))
                text_BTE = model.decoder.read_captions(target_BT[:, :-1], images)
                logits_MV = model.decoder.text_head(text_BTE.flatten(0, 1).index_select(0, place_M))
            target_M = target_BT.flatten().index_select(0, place_M)
            nats_BT = torch.zeros(supervised_BT.shape)
            nats_BT[supervised_BT] = loss(logits_MV.float(), target_M).cpu()
            nats_MT[done : done + len(row_B), :longest] = nats_BT
            done += len(row_B)
        return nats_MT

    for row_M, nats_MT in zip(rows_of, world.divided(range(len(starts)), of_images), strict=True):
        nats_NT[row_M] = nats_MT
    return nats_NT


def nats_of_all(
    model: EncoderDecoder | CaptionReader,
    features_NID: Tensor,
    wanted: Sequence[tuple[Captions, np.ndarray]],
    config: RunConfig,
    world: World = ALONE,
) -> list[Tensor]:
    """Return ``token_nats`` of several captions, each with the rows of its images, in one pass over the images."""
    captions = Captions.joined([captions for captions, _ in wanted])
    image_of_N = np.concatenate([rows for _, rows in wanted])
    nats_NT = token_nats(model, features_NID, captions, config, image_of_N=image_of_N, world=world)
    return list(nats_NT.split([len(rows) for _, rows in wanted]))


@torch.no_grad()
def pixel_errors(
    model: EncoderDecoder, data: HeldOutPairs, fraction: float, config: RunConfig, world: World = ALONE
) -> np.ndarray:
    """Return each image's mean squared error of the pixel targets after a prefix: float64 [N].

    The prefix, a fraction of the image, has the same length for all images, so all arms solve the same task. The loss
    is not defined under full attention, which leaves no patch to predict. Each patch is predicted from the true patches
    before it; a text-first decoder reads the short captions. Ranks each take some of the images.
    """
    model.eval()
    prefix_len = prefix_len_at(fraction, config.model.num_patches)

    def errors(rows: np.ndarray) -> Tensor:
        image = network_inputs(data.images[rows], config).to(config.device)
        short = data.short.rows(rows)
        token_BT, text_len_B = short.token_NT.to(config.device), short.text_len_N.to(config.device)
        if config.model.decoder.order == "image_first":
            token_BT = token_BT[:, :0]  # no patch sees them
        with autocast(config):
            image_BIE, _ = model(image, token_BT, torch.full_like(text_len_B, prefix_len), text_len_B)
            predicted_BIP: Tensor = model.decoder.pixel_head(image_BIE[:, prefix_len - 1 : -1])
        error_BIP = predicted_BIP.float() - pixel_targets(image, config)[:, prefix_len:]
        return error_BIP.square().mean(dim=(1, 2)).double().cpu()

    error_N: np.ndarray = torch.cat([*world.divided(chunks(len(data), images_at_once(config)), errors)]).numpy()
    return error_N
