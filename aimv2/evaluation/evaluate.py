"""Evaluation: the held-out curve during training and the final metrics of a run."""

import math
from collections.abc import Callable

import torch

from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import Pairs
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transfer import Labelled, TransferSet, transfer_sets
from aimv2.data.transforms import CENTRE_CROP, centred_images
from aimv2.errors import RunFailedError
from aimv2.evaluation.losses import HeldOut, caption_loss, chunks, pixel_loss_at, prepare_pairs
from aimv2.evaluation.metrics import RECALL_AT, Metric, not_applicable, pixel_losses, unit_of
from aimv2.evaluation.probe import Features, attentive_probe, knn_accuracy
from aimv2.evaluation.retrieval import caption_labels, embeddings, recall
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.network import Network
from aimv2.objectives import Objective
from aimv2.objectives.registry import Report
from aimv2.training.device import autocast

CAPTIONS = ("name", "description")
Data = dict[str, HeldOut]
Measured = dict[str, tuple[float, str]]  # values by metric, each with how it was measured


def evaluate(
    model: Network,
    goal: Objective,
    train: Pairs,
    held_out: Pairs,
    tokenizer: CaptionTokenizer,
    config: RunConfig,
    transfer: Callable[[Pairs, Pairs], list[TransferSet]] = transfer_sets,
) -> dict[str, Metric]:
    """Return the objective's reports on held-out pairs and the probes of the frozen encoder.

    Metrics that do not apply to the objective are there too, without a value.

    Args:
        goal: the objective that the config names.
        transfer: maps training and held-out pairs to the tasks of the probes.

    Raises:
        RunFailedError: a metric is not finite.
    """
    data = _data(held_out.subset(config.evaluation.num_pairs), tokenizer, config)
    measured: Measured = {}
    for report in goal.reports:
        measured |= REPORTS[report][0](model, data, config)
    for task in transfer(train, held_out):
        measured |= probe(model.encoder, task, config)
    for name, (value, _) in measured.items():
        if not math.isfinite(value):
            raise RunFailedError("not finite", f"{name} is {value} after training")
    metrics = {name: Metric(value, unit_of(name), how) for name, (value, how) in measured.items()}
    return metrics | not_applicable(goal, config)


def held_out_curve(
    goal: Objective, held_out: Pairs, tokenizer: CaptionTokenizer, config: RunConfig
) -> Callable[[Network], dict[str, float]]:
    """Return the function that measures a point of the held-out curve, on ``evaluation.curve_pairs`` pairs."""
    data = _data(held_out.subset(config.evaluation.curve_pairs), tokenizer, config)
    _, point = REPORTS[goal.reports[0]]
    return lambda model: point(model, data, config)


def _data(pairs: Pairs, tokenizer: CaptionTokenizer, config: RunConfig) -> Data:
    return {caption: prepare_pairs(pairs, tokenizer, config, caption=caption) for caption in CAPTIONS}


def _captions(model: EncoderDecoder, data: Data, config: RunConfig) -> Measured:
    name, description = (caption_loss(model, data[caption], config) for caption in CAPTIONS)
    both = name + description
    causal_name, causal_description = (
        caption_loss(model, data[caption], config, is_causal=True) for caption in CAPTIONS
    )
    causal = causal_name + causal_description
    pairs = f"{len(data['name'])} held-out pairs"
    how = f"{pairs}, full attention"
    return {
        "caption_loss": (both.nats_per_token, f"both captions of {how}"),
        "caption_bits": (both.bits_per_byte, f"both captions of {how}"),
        "name_loss": (name.nats_per_token, f"names of {how}"),
        "description_loss": (description.nats_per_token, f"descriptive captions of {how}"),
        "causal_caption_loss": (causal.nats_per_token, f"both captions of {pairs}, causal attention in the encoder"),
    }


def _caption_curve(model: EncoderDecoder, data: Data, config: RunConfig) -> dict[str, float]:
    name, description = (caption_loss(model, data[caption], config) for caption in CAPTIONS)
    return {"held_out_caption_loss": (name + description).nats_per_token}


def _pixels(model: EncoderDecoder, data: Data, config: RunConfig) -> Measured:
    pairs = f"{len(data['name'])} held-out pairs"
    return {
        name: (pixel_loss_at(model, data["name"], fraction, config), f"{pairs}, prefix {fraction:g} of the image")
        for name, fraction in pixel_losses(config).items()
    }


def _pixel_curve(model: EncoderDecoder, data: Data, config: RunConfig) -> dict[str, float]:
    return {"held_out_pixel_loss": pixel_loss_at(model, data["name"], 0.5, config)}


def _retrieval(model: DualEncoder, data: Data, config: RunConfig) -> Measured:
    image_NS, text_NS = embeddings(model, data["name"], config)
    label_N = caption_labels(data["name"].token_NT)
    how = f"{len(label_N)} held-out pairs, {len(label_N.unique())} different names, full attention"
    ways = {"image_to_text": (image_NS, text_NS), "text_to_image": (text_NS, image_NS)}
    return {
        f"{way}_recall_{k}": (recall(query_NS, key_NS, label_N, k), how)
        for way, (query_NS, key_NS) in ways.items()
        for k in RECALL_AT
    }


def _retrieval_curve(model: DualEncoder, data: Data, config: RunConfig) -> dict[str, float]:
    image_NS, text_NS = embeddings(model, data["name"], config)
    return {"held_out_recall": recall(image_NS, text_NS, caption_labels(data["name"].token_NT), k=1)}


# How a report is measured at the end of a run, and as a point of the held-out curve.
REPORTS: dict[Report, tuple[Callable[..., Measured], Callable[..., dict[str, float]]]] = {
    "captions": (_captions, _caption_curve),
    "pixels": (_pixels, _pixel_curve),
    "retrieval": (_retrieval, _retrieval_curve),
}


def probe(encoder: Encoder, task: TransferSet, config: RunConfig) -> Measured:
    """Return the accuracies of an attentive probe and of k nearest neighbours on the frozen encoder's features."""
    share = 1.0 if task.is_whole else CENTRE_CROP
    train, validation, test = (
        encode(encoder, part, config, share) for part in (task.train, task.validation, task.test)
    )
    probed = attentive_probe(train, validation, test, task.num_classes, config.evaluation.probe, seed=config.seed)
    neighbours = min(config.evaluation.knn_neighbours, len(task.train))
    images = f"{len(task.test)} test images, {task.num_classes} classes"
    setting = f"lr {probed.learning_rate:g} and weight decay {probed.weight_decay:g}"
    chosen = f"{setting} chosen on {len(task.validation)} validation images"
    return {
        f"probe_{task.name}": (probed.test_accuracy, f"attentive probe, {images}, {chosen}"),
        f"knn_{task.name}": (knn_accuracy(train, test, neighbours), f"{neighbours} nearest neighbours, {images}"),
    }


@torch.no_grad()
def encode(encoder: Encoder, part: Labelled, config: RunConfig, share: float = CENTRE_CROP) -> Features:
    """Return the features of the central share of every image under full attention: float32 [N, I, D]."""
    encoder.eval()
    features = []
    for rows in chunks(len(part)):
        image = centred_images(part.images[rows], config.model.image_px, share).to(config.device)
        with autocast(config):
            features.append(encoder(image).float())
    return Features(torch.cat(features), torch.tensor(part.labels, device=config.device))
