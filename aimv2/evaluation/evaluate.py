"""Everything that is measured at the end of a run."""

import math

import torch

from aimv2.config import RunConfig
from aimv2.data.batches import centred_images
from aimv2.data.pairs import Pairs
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transfer import Labelled, TransferSet, transfer_sets
from aimv2.errors import RunFailedError
from aimv2.evaluation.knn import knn_accuracy
from aimv2.evaluation.losses import NO_LOSS, caption_loss, chunks, pixel_loss_at, prepare_pairs
from aimv2.evaluation.probe import Features, attentive_probe
from aimv2.model.aimv2 import AIMv2
from aimv2.model.encoder import Encoder
from aimv2.record import Metric
from aimv2.training.device import autocast

CAPTIONS = ("name", "description")


def evaluate(
    model: AIMv2, train: Pairs, held_out: Pairs, tokenizer: CaptionTokenizer, config: RunConfig
) -> dict[str, Metric]:
    """Losses on held-out pairs, and probes of the frozen encoder, each with its unit.

    Raises:
        RunFailedError: a metric is not finite.
    """
    chosen = held_out.subset(config.evaluation.num_pairs)
    data = {caption: prepare_pairs(chosen, tokenizer, config, caption=caption) for caption in CAPTIONS}
    losses = {caption: caption_loss(model, data[caption], config) for caption in CAPTIONS}
    both = losses["name"] + losses["description"]
    causal = sum((caption_loss(model, data[caption], config, is_causal=True) for caption in CAPTIONS), NO_LOSS)
    pairs = f"{len(chosen)} held-out pairs"
    how = f"{pairs}, full attention"
    metrics = {
        "caption_loss": Metric(both.nats_per_token, "nats/token", f"both captions of {how}"),
        "caption_bits": Metric(both.bits_per_byte, "bits/byte", f"both captions of {how}"),
        "name_loss": Metric(losses["name"].nats_per_token, "nats/token", f"names of {how}"),
        "description_loss": Metric(
            losses["description"].nats_per_token, "nats/token", f"descriptive captions of {how}"
        ),
    }
    metrics["causal_caption_loss"] = Metric(
        causal.nats_per_token, "nats/token", f"both captions of {pairs}, causal attention in the encoder"
    )
    for fraction in config.evaluation.prefix_fractions:
        metrics[f"pixel_loss_{fraction:g}"] = Metric(
            pixel_loss_at(model, data["name"], fraction, config),
            "squared error of standardised pixels",
            f"{pairs}, prefix {fraction:g} of the image",
        )
    for task in transfer_sets(train, held_out):
        metrics |= probe(model.encoder, task, config)
    for name, metric in metrics.items():
        if not math.isfinite(metric.value):
            raise RunFailedError("not finite", f"{name} is {metric.value} after training")
    return metrics


def probe(encoder: Encoder, task: TransferSet, config: RunConfig) -> dict[str, Metric]:
    """Attentive probe and kNN accuracy of the frozen encoder on one task."""
    train, validation, test = (encode(encoder, part, config) for part in (task.train, task.validation, task.test))
    probed = attentive_probe(train, validation, test, task.num_classes, config.evaluation.probe, seed=config.seed)
    neighbours = config.evaluation.knn_neighbours
    images = f"{len(task.test)} test images, {task.num_classes} classes"
    setting = f"lr {probed.learning_rate:g} and weight decay {probed.weight_decay:g}"
    chosen = f"{setting} chosen on {len(task.validation)} validation images"
    return {
        f"probe_{task.name}": Metric(probed.test_accuracy, "accuracy", f"attentive probe, {images}, {chosen}"),
        f"knn_{task.name}": Metric(
            knn_accuracy(train, test, neighbours), "accuracy", f"{neighbours} nearest neighbours, {images}"
        ),
    }


@torch.no_grad()
def encode(encoder: Encoder, part: Labelled, config: RunConfig) -> Features:
    """Features of every image with full attention, computed once: float32 [N, I, D]."""
    encoder.eval()
    features = []
    for rows in chunks(len(part)):
        image = centred_images(part.images[rows], config.model.image_px).to(config.device)
        with autocast(config):
            features.append(encoder(image).float())
    return Features(torch.cat(features), torch.tensor(part.labels, device=config.device))
