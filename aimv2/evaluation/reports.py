"""The reports of objectives: groups of final metrics by name, each with its point of the held-out curve.

Letters: N pairs, M choices, T caption tokens, S width of the space of images and texts.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.sources.scene import CONTENT_CLASSES, SCENE_CLASSES, WordClass
from aimv2.definitions.items import Items
from aimv2.definitions.metrics import RECALL_AT, pixel_losses
from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import CLASSES, Captions, HeldOutPairs, chunks, network_inputs, other_images
from aimv2.evaluation.losses import nats_of_all, pixel_errors, token_nats
from aimv2.evaluation.parts import Measured
from aimv2.evaluation.prepare import Prepared
from aimv2.evaluation.questions import choice_items, outcomes
from aimv2.memory.evaluation import images_at_once
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.network import EncoderDecoder
from aimv2.training.device import autocast
from aimv2.training.world import ALONE, World


def captions(model: EncoderDecoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    config, world = encoded.config, encoded.world
    held_out, unseen, choices = prepared.held_out, prepared.unseen, prepared.choices
    some = held_out.first(config.evaluation.num_other_images)
    all_N, other_N = np.arange(len(held_out)), other_images(some.dense)
    blind = choices.first(len(some))
    short_NT, dense_NT, other_NT, negative_MT, blind_MT = nats_of_all(
        model,
        encoded.full,
        [
            (held_out.short, all_N),
            (held_out.dense, all_N),
            (some.dense, other_N),
            (choices.captions, choices.row_M),
            (blind.captions, other_N[blind.row_M]),
        ],
        config,
        world,
    )
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
    outcome_M = outcomes(dense_NT, held_out.dense, negative_MT, choices)
    for name, items in choice_items(outcome_M, choices, held_out.item_N).items():
        how = f"{len(items.item_N):,} choices, true dense caption or hard negative"
        found[f"choice_accuracy{name}"] = Measured(items, how)
    items = choice_items(outcomes(other_NT, some.dense, blind_MT, blind), blind, some.item_N)[""]
    how = f"{len(items.item_N):,} choices given another image; without the image half are right"
    found["blind_choice_accuracy"] = Measured(items, how)
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
