"""Losses on held-out pairs, image by image, and the reports of objectives: groups of final metrics by name, each with
its point of the held-out curve.

Letters: N pairs, B images of a batch, T caption tokens, I patches, S width of the space of images and texts.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.config.prefix import prefix_len_at
from aimv2.config.run_config import RunConfig
from aimv2.data.sources.scene import CONTENT_CLASSES, SCENE_CLASSES, WordClass
from aimv2.definitions.items import Items
from aimv2.definitions.metrics import RECALL_AT, pixel_losses
from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import CLASSES, Captions, HeldOutPairs, chunks, network_inputs, other_images
from aimv2.evaluation.parts import Measured
from aimv2.evaluation.prepare import Prepared
from aimv2.memory.evaluation import images_at_once
from aimv2.model.dual_encoder import DualEncoder
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


def captions(model: EncoderDecoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    config, world = encoded.config, encoded.world
    held_out, unseen = prepared.held_out, prepared.unseen
    some = held_out.first(config.evaluation.num_other_images)
    all_N, other_N = np.arange(len(held_out)), other_images(some.dense)
    wanted = [(held_out.short, all_N), (held_out.dense, all_N), (some.dense, other_N)]
    short_NT, dense_NT, other_NT = nats_of_all(model, encoded.full, wanted, config, world)
    # On the same pairs as content_loss, since their difference is what a mask costs.
    causal_NT = token_nats(model, encoded.causal, held_out.dense, config, world=world)
    found = _caption_losses(held_out, short_NT, dense_NT)
    how = f"content words of dense captions of {len(held_out):,} held-out pairs, causal attention in the encoder"
    causal = by_class(causal_NT, held_out.dense, held_out.item_N)[""]
    found["causal_content_loss"] = Measured(causal, how)
    how = (
        f"content words of dense captions of {len(some):,} held-out pairs, loss with another pair's image minus that"
        " with its own"
    )
    gains = by_class(other_NT - dense_NT[: len(some)], some.dense, some.item_N)
    found |= {f"image_gain{name}": Measured(items, how) for name, items in gains.items()}
    if unseen is not None:
        unseen_NT = token_nats(model, encoded.of(unseen.images, is_causal=False), unseen.dense, config, world=world)
        how = f"inks and places in dense captions of {len(unseen):,} scenes with unseen objects, full attention"
        items = _items(unseen_NT, unseen.dense, unseen.item_N, ("ink", "place"))
        found["unseen_content_loss"] = Measured(items, how)
    return found


def captions_curve(model: EncoderDecoder, held_out: HeldOutPairs, config: RunConfig) -> dict[str, float]:
    features_NID = encode(model.encoder, held_out.images, config)
    short, dense = (
        _items(token_nats(model, features_NID, texts, config), texts, held_out.item_N)
        for texts in (held_out.short, held_out.dense)
    )
    return {"held_out_caption_loss": Items.joined(short, dense).value}


def _caption_losses(held_out: HeldOutPairs, short_NT: Tensor, dense_NT: Tensor) -> dict[str, Measured]:
    short = _items(short_NT, held_out.short, held_out.item_N)
    dense = _items(dense_NT, held_out.dense, held_out.item_N)
    bits = Items.of(
        np.tile(held_out.item_N, 2),
        torch.cat([short_NT.sum(dim=1), dense_NT.sum(dim=1)]).numpy() / math.log(2),
        torch.cat([held_out.short.num_bytes_N, held_out.dense.num_bytes_N]).numpy(),
    )
    how = f"captions of {len(held_out):,} held-out pairs, full attention"
    content = by_class(dense_NT, held_out.dense, held_out.item_N)
    return {
        "caption_loss": Measured(Items.joined(short, dense), f"both {how}"),
        "caption_bits": Measured(bits, f"both {how}"),
        "short_loss": Measured(short, f"short {how}"),
        "dense_loss": Measured(dense, f"dense {how}"),
        **{f"content_loss{name}": Measured(items, f"content words of dense {how}") for name, items in content.items()},
    }


def _items(nats_NT: Tensor, texts: Captions, item_N: np.ndarray, classes: Sequence[WordClass] = CLASSES) -> Items:
    chosen_NT = texts.of_class(*classes)
    return Items.of(item_N, (nats_NT * chosen_NT).sum(dim=1).numpy(), chosen_NT.sum(dim=1).numpy())


def by_class(nats_NT: Tensor, texts: Captions, item_N: np.ndarray) -> dict[str, Items]:
    """Return the loss per token of all content words, by the name "", and of each class, by ``_<class>``."""
    classes = {"": CONTENT_CLASSES, **{f"_{name}": (name,) for name in SCENE_CLASSES}}
    return {name: _items(nats_NT, texts, item_N, chosen) for name, chosen in classes.items()}


def pixels(model: EncoderDecoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    """Measure the loss of patches after prefixes of fixed lengths."""
    config = encoded.config
    some = prepared.held_out.first(config.evaluation.num_pairs)
    return {
        name: Measured(
            Items.of(some.item_N, pixel_errors(model, some, fraction, config, encoded.world)),
            f"{len(some):,} held-out pairs, prefix {fraction:g} of the image",
        )
        for name, fraction in pixel_losses(config).items()
    }


def pixels_curve(model: EncoderDecoder, held_out: HeldOutPairs, config: RunConfig) -> dict[str, float]:
    return {"held_out_pixel_loss": float(pixel_errors(model, held_out, 0.5, config).mean())}


def retrieval(model: DualEncoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    """Measure the recall of each image's caption among all captions, and the reverse."""
    config = encoded.config
    some = prepared.held_out.first(config.evaluation.num_pairs)
    image_NS, text_NS = embeddings(model, some, config, encoded.world)
    label_N = caption_labels(some.dense.token_NT)
    how = f"{len(label_N):,} held-out pairs, {len(label_N.unique()):,} different dense captions, full attention"
    ways = {"image_to_text": (image_NS, text_NS), "text_to_image": (text_NS, image_NS)}
    return {
        f"{way}_recall_{k}": Measured(Items.of(some.item_N, hits(query_NS, key_NS, label_N, k)), how)
        for way, (query_NS, key_NS) in ways.items()
        for k in RECALL_AT
    }


def retrieval_curve(model: DualEncoder, held_out: HeldOutPairs, config: RunConfig) -> dict[str, float]:
    image_NS, text_NS = embeddings(model, held_out, config)
    label_N = caption_labels(held_out.dense.token_NT)
    return {"held_out_recall": float(hits(image_NS, text_NS, label_N, k=1).mean())}


@torch.no_grad()
def embeddings(
    model: DualEncoder, data: HeldOutPairs, config: RunConfig, world: World = ALONE
) -> tuple[Tensor, Tensor]:
    """Return the unit vectors of images and dense captions, [N, S] each, with full attention in the encoder."""
    model.eval()

    def embedded(rows: np.ndarray) -> Tensor:
        """Return vectors of images and of texts: [2, B, S]."""
        image = network_inputs(data.images[rows], config).to(config.device)
        token_BT, text_len_B = (part[rows].to(config.device) for part in (data.dense.token_NT, data.dense.text_len_N))
        with autocast(config):
            return torch.stack([model.embed_images(image), model.embed_texts(token_BT, text_len_B)])

    rows = chunks(len(data), images_at_once(config))
    image_NS, text_NS = (torch.cat(parts) for parts in zip(*world.divided(rows, embedded), strict=True))
    return image_NS, text_NS


def hits(query_NS: Tensor, key_NS: Tensor, label_N: Tensor, k: int) -> np.ndarray:
    """Return True for queries with a key of their own label among the k nearest, whose mean is the recall: bool [N]."""
    label_N = label_N.to(query_NS.device)
    nearest_Nk = (query_NS @ key_NS.T).topk(min(k, len(key_NS)), dim=1).indices
    is_hit_N: np.ndarray = (label_N[nearest_Nk] == label_N[:, None]).any(dim=1).cpu().numpy()
    return is_hit_N


def caption_labels(token_NT: Tensor) -> Tensor:
    """Return a number for each caption, equal for equal captions: int64 [N]."""
    labels: Tensor = torch.unique(token_NT, dim=0, return_inverse=True)[1]
    return labels
