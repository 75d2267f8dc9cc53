"""The report on captions: their losses, what these gain from the image, and choices.

Letters: N pairs, M choices, T caption tokens.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.sources.scene import CONTENT_CLASSES, SCENE_CLASSES, WordClass
from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import CLASSES, Captions, HeldOutPairs, other_images
from aimv2.evaluation.losses import nats_of_all, token_nats
from aimv2.evaluation.parts import Measured
from aimv2.evaluation.prepare import Prepared
from aimv2.evaluation.reports.choices import Choices, choice_items, outcomes
from aimv2.model.network import EncoderDecoder
from aimv2.spec.items import Items


def measure(model: EncoderDecoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    """Return the metrics of the report, by name."""
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
    found = {
        **_full_attention(held_out, short_NT, dense_NT),
        **_causal_attention(held_out, causal_NT),
        **_image_gains(some, other_NT - dense_NT[: len(some)]),
        **_choices(outcomes(dense_NT, held_out.dense, negative_MT, choices), choices, held_out),
        **_blind_choices(outcomes(other_NT, some.dense, blind_MT, blind), blind, some),
    }
    if unseen is not None:
        features_NID = encoded.of(unseen.images, is_causal=False)
        found |= _unseen_objects(unseen, token_nats(model, features_NID, unseen.dense, config, world=world))
    return found


def curve(model: EncoderDecoder, held_out: HeldOutPairs, config: RunConfig) -> dict[str, float]:
    """Return the loss of both captions, a point of the held-out curve."""
    features_NID = encode(model.encoder, held_out.images, config)
    short, dense = (
        _items(token_nats(model, features_NID, captions, config), captions, held_out.item_N)
        for captions in (held_out.short, held_out.dense)
    )
    return {"held_out_caption_loss": Items.joined(short, dense).value}


def _full_attention(held_out: HeldOutPairs, short_NT: Tensor, dense_NT: Tensor) -> dict[str, Measured]:
    short, dense = (
        _items(nats_NT, captions, held_out.item_N)
        for nats_NT, captions in ((short_NT, held_out.short), (dense_NT, held_out.dense))
    )
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


def _causal_attention(held_out: HeldOutPairs, causal_NT: Tensor) -> dict[str, Measured]:
    how = f"content words of dense captions of {len(held_out):,} held-out pairs, causal attention in the encoder"
    return {"causal_content_loss": Measured(by_class(causal_NT, held_out.dense, held_out.item_N)[""], how)}


def _image_gains(some: HeldOutPairs, gain_NT: Tensor) -> dict[str, Measured]:
    how = (
        f"content words of dense captions of {len(some):,} held-out pairs, loss with another pair's image minus that"
        " with its own"
    )
    gains = by_class(gain_NT, some.dense, some.item_N)
    return {f"image_gain{name}": Measured(items, how) for name, items in gains.items()}


def _choices(outcome_M: np.ndarray, choices: Choices, held_out: HeldOutPairs) -> dict[str, Measured]:
    return {
        f"choice_accuracy{name}": Measured(items, f"{len(items.item_N):,} choices, true dense caption or hard negative")
        for name, items in choice_items(outcome_M, choices, held_out.item_N).items()
    }


def _blind_choices(outcome_M: np.ndarray, blind: Choices, some: HeldOutPairs) -> dict[str, Measured]:
    items = choice_items(outcome_M, blind, some.item_N)[""]
    how = f"{len(items.item_N):,} choices given another image; without the image half are right"
    return {"blind_choice_accuracy": Measured(items, how)}


def _unseen_objects(unseen: HeldOutPairs, nats_NT: Tensor) -> dict[str, Measured]:
    how = f"inks and places in dense captions of {len(unseen):,} scenes with unseen objects, full attention"
    return {"unseen_content_loss": Measured(_items(nats_NT, unseen.dense, unseen.item_N, ("ink", "place")), how)}


def _items(nats_NT: Tensor, captions: Captions, item_N: np.ndarray, classes: Sequence[WordClass] = CLASSES) -> Items:
    """Return the loss per token of these classes."""
    chosen_NT = captions.of_class(*classes)
    return Items.of(item_N, (nats_NT * chosen_NT).sum(dim=1).numpy(), chosen_NT.sum(dim=1).numpy())


def by_class(nats_NT: Tensor, captions: Captions, item_N: np.ndarray) -> dict[str, Items]:
    """Return the loss per token of all content words, by the name "", and of each class, by ``_<class>``."""
    classes = {f"_{name}": (name,) for name in SCENE_CLASSES}
    return {
        name: _items(nats_NT, captions, item_N, chosen) for name, chosen in {"": CONTENT_CLASSES, **classes}.items()
    }
