"""Everything that is measured at the end of a run."""

import math
from collections.abc import Callable

import torch

from aimv2.config import RunConfig
from aimv2.data.batches import centred_images
from aimv2.data.pairs import Pairs
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transfer import Labelled, TransferSet, transfer_sets
from aimv2.errors import RunFailedError
from aimv2.evaluation.knn import knn_accuracy
from aimv2.evaluation.losses import NO_LOSS, HeldOut, caption_loss, chunks, pixel_loss_at, prepare_pairs
from aimv2.evaluation.probe import Features, attentive_probe
from aimv2.evaluation.retrieval import caption_labels, embeddings, recall
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.network import Network
from aimv2.objectives import objective
from aimv2.record import Metric
from aimv2.training.device import autocast

CAPTIONS = ("name", "description")
RECALL_AT = (1, 5)

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
    reports = objective(config.objective.name).reports
    metrics = (
        _captions(model if "captions" in reports else None, data, config)
        | _pixels(model if "pixels" in reports else None, data, config)
        | _retrieval(model if "retrieval" in reports else None, data, config)
    )
    for task in transfer_sets(train, held_out):
        metrics |= probe(model.encoder, task, config)
    for name, metric in metrics.items():
        if metric.value is not None and not math.isfinite(metric.value):
            raise RunFailedError("not finite", f"{name} is {metric.value} after training")
    return metrics


def held_out_curve(
    held_out: Pairs, tokenizer: CaptionTokenizer, config: RunConfig
) -> Callable[[Network], dict[str, float]]:
    """What to measure during training: the first thing that the objective reports, on few held-out pairs."""
    shown = held_out.subset(config.evaluation.curve_pairs)
    data = {caption: prepare_pairs(shown, tokenizer, config, caption=caption) for caption in CAPTIONS}

    def measure(model: Network) -> dict[str, float]:
        if isinstance(model, DualEncoder):
            image_NS, text_NS = embeddings(model, data["name"], config)
            return {"held_out_recall": recall(image_NS, text_NS, caption_labels(data["name"].token_NT), k=1)}
        assert isinstance(model, EncoderDecoder)
        if objective(config.objective.name).reports[0] == "pixels":
            return {"held_out_pixel_loss": pixel_loss_at(model, data["name"], 0.5, config)}
        total = sum((caption_loss(model, part, config) for part in data.values()), NO_LOSS)
        return {"held_out_caption_loss": total.nats_per_token}

    return measure


def _captions(model: Network | None, data: Data, config: RunConfig) -> dict[str, Metric]:
    units = {
        "caption_loss": "nats/token",
        "caption_bits": "bits/byte",
        "name_loss": "nats/token",
        "description_loss": "nats/token",
        "causal_caption_loss": "nats/token",
    }
    if model is None:
        return _not_applicable(units, config)
    assert isinstance(model, EncoderDecoder)
    losses = {caption: caption_loss(model, data[caption], config) for caption in CAPTIONS}
    both = losses["name"] + losses["description"]
    causal = sum((caption_loss(model, data[caption], config, is_causal=True) for caption in CAPTIONS), NO_LOSS)
    pairs = f"{len(data['name'])} held-out pairs"
    how = f"{pairs}, full attention"
    return {
        "caption_loss": Metric(both.nats_per_token, "nats/token", f"both captions of {how}"),
        "caption_bits": Metric(both.bits_per_byte, "bits/byte", f"both captions of {how}"),
        "name_loss": Metric(losses["name"].nats_per_token, "nats/token", f"names of {how}"),
        "description_loss": Metric(
            losses["description"].nats_per_token, "nats/token", f"descriptive captions of {how}"
        ),
        "causal_caption_loss": Metric(
            causal.nats_per_token, "nats/token", f"both captions of {pairs}, causal attention in the encoder"
        ),
    }


def _pixels(model: Network | None, data: Data, config: RunConfig) -> dict[str, Metric]:
    """Losses of raw and of standardised pixels have names of their own, for they cannot be compared."""
    fractions = config.evaluation.prefix_fractions
    targets = {"": "standardised", "raw_": "raw"}
    units = {
        f"{start}pixel_loss_{fraction:g}": f"squared error of {target} pixels"
        for start, target in targets.items()
        for fraction in fractions
    }
    metrics = _not_applicable(units, config)
    if model is None:
        return metrics
    assert isinstance(model, EncoderDecoder)
    start = "raw_" if config.objective.pixel_targets == "raw" else ""
    for fraction in fractions:
        name = f"{start}pixel_loss_{fraction:g}"
        value = pixel_loss_at(model, data["name"], fraction, config)
        how = f"{len(data['name'])} held-out pairs, prefix {fraction:g} of the image"
        metrics[name] = Metric(value, units[name], how)
    return metrics


def _retrieval(model: Network | None, data: Data, config: RunConfig) -> dict[str, Metric]:
    units = {f"{way}_recall_{k}": "accuracy" for way in ("image_to_text", "text_to_image") for k in RECALL_AT}
    if model is None:
        return _not_applicable(units, config)
    assert isinstance(model, DualEncoder)
    image_NS, text_NS = embeddings(model, data["name"], config)
    label_N = caption_labels(data["name"].token_NT).to(image_NS.device)
    values = [
        recall(query, key, label_N, k) for query, key in ((image_NS, text_NS), (text_NS, image_NS)) for k in RECALL_AT
    ]
    how = f"{len(label_N)} held-out pairs, {len(label_N.unique())} different names, full attention"
    return {name: Metric(value, unit, how) for (name, unit), value in zip(units.items(), values, strict=True)}


def _not_applicable(units: dict[str, str], config: RunConfig) -> dict[str, Metric]:
    why = f"not applicable to objective {config.objective.name} with {config.objective.pixel_targets} targets"
    return {name: Metric(None, unit, why) for name, unit in units.items()}


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
