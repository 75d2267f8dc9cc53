"""What a fresh decoder reads from encodings of parts of images, of which the paper's section 5 speaks.

``python sweeps/manage.py measure encoder_attention_laptop plugins=[analysis/metrics/partial_images.py]
evaluation.metrics=[partial_reader_loss]``

A part is the first half of the patches in reading order, which attend to each other and to nothing else of the image:
what a prefix of half the image is in training. Letters: N images, I patches, D width.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from aimv2.definitions.metrics import metric

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from aimv2.config.data_config import DataConfig
    from aimv2.data.prepare import Data
    from aimv2.definitions.items import Items
    from aimv2.evaluation.evaluate import TrainedModel


@metric("nats/token", lower_is_better=True)
def partial_reader_loss(model: "TrainedModel") -> "Items":
    """As ``reader_loss``, of a reader that learns from encodings of half images and is tested on those of others.

    In the places of the hidden patches it reads the mean encoding of a patch, which tells nothing.
    """
    import torch

    from aimv2.evaluation.prepare import prepare_evaluation
    from aimv2.evaluation.reader import trained
    from aimv2.evaluation.reports import by_class, token_nats

    config, held_out = model.config, model.pairs
    reading = prepare_evaluation(_data(config.data, config.model.vocab_size), config).reading
    if reading is None:
        raise ValueError("evaluation.reader.samples is 0, and this metric trains such a reader")
    with torch.enable_grad():
        reader = trained(encodings_of_halves(model, reading.images), reading.dense, config)
    nats_NT = token_nats(reader, encodings_of_halves(model, held_out.images), held_out.dense, config)
    return by_class(nats_NT, held_out.dense, held_out.item_N)[""]


@lru_cache(maxsize=1)
def _data(config: "DataConfig", vocab_size: int) -> "Data":
    """Return the data of a run. The runs of a worker share it, and with it what is prepared of it."""
    from aimv2.data.prepare import prepare

    return prepare(config, vocab_size)


def encodings_of_halves(model: "TrainedModel", images: "np.ndarray") -> "Tensor":
    """Encode the first half of the patches of images uint8 [N, S, S, 3].

    Returns:
        As ``encode``: [N, I, D], in the hidden half the mean over images and patches.
    """
    import torch

    from aimv2.evaluation.features import encode

    encoder, half = model.network.encoder, model.config.model.num_patches // 2

    def only_half(encoder: "nn.Module", given: "tuple[Tensor, None]") -> "tuple[Tensor, Tensor]":
        image, _ = given
        return image, torch.full((len(image),), half, device=image.device)

    with encoder.register_forward_pre_hook(only_half):
        feature_NID = encode(encoder, images, model.config)
    feature_NID[:, half:] = feature_NID[:, :half].float().mean(dim=(0, 1)).to(feature_NID.dtype)
    return feature_NID
