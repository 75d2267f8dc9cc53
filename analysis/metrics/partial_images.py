"""What a fresh decoder reads from encodings of parts of images, of which the paper's section 5 speaks.

``python sweeps/manage.py evaluate encoder_attention metric=analysis/metrics/partial_images.py:partial_reader_loss``

A part is the first half of the patches in reading order, which attend to each other and to nothing else of the image:
what a prefix of half the image is in training. Letters: N images, I patches, D width.
"""

from typing import TYPE_CHECKING

from aimv2.spec.plugin_metrics import metric

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aimv2.evaluation.trained import TrainedModel
    from aimv2.spec.items import Items


@metric("nats/token", lower_is_better=True)
def partial_reader_loss(model: "TrainedModel") -> "Items":
    """As ``reader_loss``, of a reader that learns from encodings of half images and is tested on those of others.

    In the places of the hidden patches it reads the mean encoding of a patch, which tells nothing.
    """
    import torch

    from aimv2.data.prepare import prepare
    from aimv2.evaluation.losses import token_nats
    from aimv2.evaluation.prepare import prepare_evaluation
    from aimv2.evaluation.reports.captions import by_class
    from aimv2.evaluation.reports.reader import trained

    config, held_out = model.config, model.pairs
    reading = prepare_evaluation(prepare(config.data, config.model.vocab_size), config).reading
    if reading is None:
        raise ValueError("evaluation.reader.samples is 0, and this metric trains such a reader")
    with torch.enable_grad():
        reader = trained(encodings_of_halves(model, reading.images), reading.dense, config)
    nats_NT = token_nats(reader, encodings_of_halves(model, held_out.images), held_out.dense, config)
    return by_class(nats_NT, held_out.dense, held_out.item_N)[""]


def encodings_of_halves(model: "TrainedModel", images: "np.ndarray") -> "Tensor":
    """Encode the first half of the patches of images uint8 [N, S, S, 3].

    Returns:
        float32 [N, I, D], in the hidden half the mean over images and patches.
    """
    import torch

    from aimv2.evaluation.held_out import chunks, network_inputs

    config, encoder = model.config, model.network.encoder.eval()
    half = config.model.num_patches // 2
    found = []
    with torch.no_grad():
        for row_B in chunks(len(images), 256):
            image = network_inputs(images[row_B], config).to(config.device)
            prefix_len_B = torch.full((len(row_B),), half, device=image.device)
            found.append(encoder(image, prefix_len_B).float().cpu())
    feature_NID = torch.cat(found)
    feature_NID[:, half:] = feature_NID[:, :half].mean(dim=(0, 1))
    return feature_NID
