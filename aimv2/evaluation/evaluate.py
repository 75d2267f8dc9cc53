"""Everything that is measured at the end of a run."""

import math
from collections.abc import Callable

import torch

from aimv2.config.run_config import RunConfig
from aimv2.data.batches import centred_images
from aimv2.data.pairs import Pairs
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transfer import Labelled, TransferSet, transfer_sets
from aimv2.errors import RunFailedError
from aimv2.evaluation.knn import knn_accuracy
from aimv2.evaluation.losses import NO_LOSS, HeldOut, caption_loss, chunks, pixel_loss_at, prepare_pairs
from aimv2.evaluation.metrics import CAPTION_UNITS, RECALL_AT, RETRIEVAL_UNITS, Metric, not_applicable, pixel_units
from aimv2.evaluation.probe import Features, attentive_probe
from aimv2.evaluation.retrieval import caption_labels, embeddings, recall
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.network import Network
from aimv2.objectives import objective
from aimv2.objectives.base import Report
from aimv2.training.device import autocast

CAPTIONS = ("name", "description")
Data = dict[str, HeldOut]


def evaluate(
    model: Network, train: Pairs, held_out: Pairs, tokenizer: CaptionTokenizer, config: RunConfig
) -> dict[str, Metric]:
    """What the objective's network can report on held-out pairs, and probes of the frozen encoder, each with its unit.

    What it cannot report is there too, without a value.

    Raises:
        RunFailedError: a metric is not finite.
    """
    chosen = held_out.subset(config.evaluation.num_pairs)
    data = {caption: prepare_pairs(chosen, tokenizer, config, caption=caption) for caption in CAPTIONS}
    metrics: dict[str, Metric] = {}
    for report in objective(config.objective.name).reports:
        metrics |= MEASURES[report](model, data, config)
    for task in transfer_sets(train, held_out):
        metrics |= probe(model.encoder, task, config)
    for name, metric in metrics.items():
        if metric.value is None or not math.isfinite(metric.value):
            raise RunFailedError("not finite", f"{name} is {metric.value} after training")
    return metrics | not_applicable(config)


def held_out_curve(
    held_out: Pairs, tokenizer: CaptionTokenizer, config: RunConfig
) -> Callable[[Network], dict[str, float]]:
    """What to measure during training: the first thing that the objective reports, on few held-out pairs."""
    shown = held_out.subset(config.evaluation.curve_pairs)
    data = {caption: prepare_pairs(shown, tokenizer, config, caption=caption) for caption in CAPTIONS}

    return lambda model: curve_value(model, data, config)


def curve_value(model: Network, data: Data, config: RunConfig) -> dict[str, float]:
    """One point of the held-out curve."""
    if isinstance(model, DualEncoder):
        image_NS, text_NS = embeddings(model, data["name"], config)
        return {"held_out_recall": recall(image_NS, text_NS, caption_labels(data["name"].token_NT), k=1)}
    assert isinstance(model, EncoderDecoder)
    if objective(config.objective.name).reports[0] == "pixels":
        return {"held_out_pixel_loss": pixel_loss_at(model, data["name"], 0.5, config)}
    total = sum((caption_loss(model, part, config) for part in data.values()), NO_LOSS)
    return {"held_out_caption_loss": total.nats_per_token}


def _captions(model: Network, data: Data, config: RunConfig) -> dict[str, Metric]:
    assert isinstance(model, EncoderDecoder)
    losses = {caption: caption_loss(model, data[caption], config) for caption in CAPTIONS}
    both = losses["name"] + losses["description"]
    causal = sum((caption_loss(model, data[caption], config, is_causal=True) for caption in CAPTIONS), NO_LOSS)
    pairs = f"{len(data['name'])} held-out pairs"
    how = f"{pairs}, full attention"
    found = {
        "caption_loss": (both.nats_per_token, f"both captions of {how}"),
        "caption_bits": (both.bits_per_byte, f"both captions of {how}"),
        "name_loss": (losses["name"].nats_per_token, f"names of {how}"),
        "description_loss": (losses["description"].nats_per_token, f"descriptive captions of {how}"),
        "causal_caption_loss": (
            causal.nats_per_token,
            f"both captions of {pairs}, causal attention in the encoder",
        ),
    }
    return {name: Metric(found[name][0], unit, found[name][1]) for name, unit in CAPTION_UNITS.items()}


def _pixels(model: Network, data: Data, config: RunConfig) -> dict[str, Metric]:
    assert isinstance(model, EncoderDecoder)
    units = pixel_units(config.objective.pixel_targets, config)
    return {
        name: Metric(
            pixel_loss_at(model, data["name"], fraction, config),
            unit,
            f"{len(data['name'])} held-out pairs, prefix {fraction:g} of the image",
        )
        for (name, unit), fraction in zip(units.items(), config.evaluation.prefix_fractions, strict=True)
    }


def _retrieval(model: Network, data: Data, config: RunConfig) -> dict[str, Metric]:
    assert isinstance(model, DualEncoder)
    image_NS, text_NS = embeddings(model, data["name"], config)
    label_N = caption_labels(data["name"].token_NT).to(image_NS.device)
    values = [
        recall(query, key, label_N, k) for query, key in ((image_NS, text_NS), (text_NS, image_NS)) for k in RECALL_AT
    ]
    how = f"{len(label_N)} held-out pairs, {len(label_N.unique())} different names, full attention"
    return {name: Metric(value, unit, how) for (name, unit), value in zip(RETRIEVAL_UNITS.items(), values, strict=True)}


MEASURES: dict[Report, Callable[[Network, Data, RunConfig], dict[str, Metric]]] = {
    "captions": _captions,
    "pixels": _pixels,
    "retrieval": _retrieval,
}


def probe(encoder: Encoder, task: TransferSet, config: RunConfig) -> dict[str, Metric]:
    """Attentive probe and kNN accuracy of the frozen encoder on one task."""
    train, validation, test = (encode(encoder, part, config) for part in (task.train, task.validation, task.test))
    probed = attentive_probe(train, validation, test, task.num_classes, config.evaluation.probe, seed=config.seed)
    neighbours = min(config.evaluation.knn_neighbours, len(task.train))
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
