"""Evaluation: the held-out curve during training and the final metrics of a run."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.prepare import Data
from aimv2.data.sources.scene import CONTENT_CLASSES, SCENE_CLASSES, WordClass
from aimv2.data.transfer import Task, Tested, TransferSet, transfer_sets
from aimv2.errors import RunFailedError
from aimv2.evaluation.choices import choice_items, outcomes
from aimv2.evaluation.features import Encoded, encode
from aimv2.evaluation.held_out import CLASSES, Captions, HeldOut, Words, other_images, prepare_pairs
from aimv2.evaluation.items import Items
from aimv2.evaluation.losses import nats_of_all, pixel_errors, token_nats
from aimv2.evaluation.metrics import RECALL_AT, SCENE_TASKS, Metric, not_applicable, pixel_losses, unit_of
from aimv2.evaluation.parts import Measured, Part, unsaved
from aimv2.evaluation.prepare import Prepared, of_split, prepare_evaluation
from aimv2.evaluation.probes.attentive import attentive_probe
from aimv2.evaluation.probes.neighbours import knn_score
from aimv2.evaluation.probes.splits import Features
from aimv2.evaluation.retrieval import caption_labels, embeddings, hits
from aimv2.evaluation.sets.studies import labelled_sets
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.model.network import Network
from aimv2.objectives import Objective
from aimv2.objectives.registry import Report
from aimv2.training.world import ALONE, World


def evaluate(
    model: Network,
    goal: Objective,
    data: Data,
    config: RunConfig,
    part: Part = unsaved,
    world: World = ALONE,
    transfer: Callable[[Data, Tested, int], list[TransferSet]] = transfer_sets,
) -> dict[str, Metric]:
    """Return the objective's reports on held-out pairs and the probes of the frozen encoder.

    Metrics that do not apply to the objective or the data are there too, without a value. Several ranks share the
    images in batches of EVAL_BATCH, and whole probes, so that all values are bitwise those of one process on equal
    hardware.

    Args:
        model: with the same weights on all ranks.
        goal: the objective that the config names.
        part: called with the names of parts, reports or probes, and the function that measures them; may return values
            that were measured before (``Parts``).
        world: ranks that all call this; rank 0 gets all values.
        transfer: returns the tasks of the probes.

    Raises:
        RunFailedError: a metric is not finite.
    """
    prepared = prepare_evaluation(data, config, transfer)
    encoded = Encoded(model.encoder, prepared.held_out.images, config, world)
    measured: dict[str, Measured] = {}
    for report in goal.reports:
        measured |= part([report], partial(_report, REPORTS[report][0], model, encoded, prepared))
    for found in (*prepared.transfer, *labelled_sets(config)):
        for tasks in probes(encoded, found, config):
            measured |= tasks.measured(part)
    metrics = {
        name: Metric(items.value, unit_of(name), how, warning, items)
        for name, (items, how, warning) in measured.items()
        if len(items.item_N)  # else the data has no such word or choice
    }
    return metrics | not_applicable(goal, config)


def _report(
    measure: Callable[..., dict[str, Measured]],
    model: Network,
    encoded: Encoded,
    prepared: Prepared,
    names: Sequence[str],
) -> list[dict[str, Measured]]:
    """Measure a report, which is one part."""
    return [_finite(measure(model, encoded, prepared))]


def _finite(measured: dict[str, Measured]) -> dict[str, Measured]:
    """Return what was measured, and fail the run if a value is not finite."""
    for name, (items, _, _) in measured.items():
        if len(items.item_N) and not math.isfinite(items.value):
            raise RunFailedError("not finite", f"{name} is {items.value} after training")
    return measured


def held_out_curve(goal: Objective, data: Data, config: RunConfig) -> Callable[[Network], dict[str, float]]:
    """Return the function that measures a point of the held-out curve, on ``evaluation.curve_pairs`` pairs.

    An objective without reports has no such curve.
    """
    if not goal.reports:
        return lambda model: {}
    words = Words.of(data.tokenizer, config)
    pairs = of_split(data.held_out, config.evaluation.curve_pairs, config.evaluation)
    held_out = prepare_pairs(pairs, words, config.data.max_bad_rate)
    _, point = REPORTS[goal.reports[0]]
    return lambda model: point(model, held_out, config)


def _captions(model: EncoderDecoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    config, world = encoded.config, encoded.world
    held_out, choices = prepared.held_out, prepared.choices
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
    found = _full_attention(held_out, short_NT, dense_NT)
    # On the same pairs as content_loss, since their difference is what a mask costs.
    causal_NT = token_nats(model, encoded.causal, held_out.dense, config, world=world)
    causal = by_class(causal_NT, held_out.dense, held_out.item_N)[""]
    how = f"content words of dense captions of {len(held_out):,} held-out pairs, causal attention in the encoder"
    found["causal_content_loss"] = Measured(causal, how)

    few = f"{len(some):,} held-out pairs"
    how = f"content words of dense captions of {few}, loss with another pair's image minus that with its own"
    for name, items in by_class(other_NT - dense_NT[: len(some)], some.dense, some.item_N).items():
        found[f"image_gain{name}"] = Measured(items, how)
    outcome_M = outcomes(dense_NT, held_out.dense, negative_MT, choices)
    for name, items in choice_items(outcome_M, choices, held_out.item_N).items():
        how = f"{len(items.item_N):,} choices, true dense caption or hard negative"
        found[f"choice_accuracy{name}"] = Measured(items, how)
    items = choice_items(outcomes(other_NT, some.dense, blind_MT, blind), blind, some.item_N)[""]
    how = f"{len(items.item_N):,} choices given another image; without the image half are right"
    found["blind_choice_accuracy"] = Measured(items, how)

    if prepared.unseen is not None:
        unseen = prepared.unseen
        features_NID = encoded.of(unseen.images, is_causal=False)
        nats_NT = token_nats(model, features_NID, unseen.dense, config, world=world)
        how = f"inks and places in dense captions of {len(unseen):,} scenes with unseen objects, full attention"
        found["unseen_content_loss"] = Measured(_items(nats_NT, unseen.dense, unseen.item_N, ("ink", "place")), how)
    return found


def _full_attention(held_out: HeldOut, short_NT: Tensor, dense_NT: Tensor) -> dict[str, Measured]:
    short, dense = (
        _items(nats_NT, captions, held_out.item_N)
        for nats_NT, captions in ((short_NT, held_out.short), (dense_NT, held_out.dense))
    )
    bits = Items.of(
        np.tile(held_out.item_N, 2),
        torch.cat([short_NT.sum(dim=1), dense_NT.sum(dim=1)]).numpy() / math.log(2),
        np.concatenate([held_out.short.num_bytes_N, held_out.dense.num_bytes_N]),
    )
    how = f"captions of {len(held_out):,} held-out pairs, full attention"
    content = by_class(dense_NT, held_out.dense, held_out.item_N)
    return {
        "caption_loss": Measured(short + dense, f"both {how}"),
        "caption_bits": Measured(bits, f"both {how}"),
        "short_loss": Measured(short, f"short {how}"),
        "dense_loss": Measured(dense, f"dense {how}"),
        **{f"content_loss{name}": Measured(items, f"content words of dense {how}") for name, items in content.items()},
    }


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


def _caption_curve(model: EncoderDecoder, held_out: HeldOut, config: RunConfig) -> dict[str, float]:
    features_NID = encode(model.encoder, held_out.images, config)
    short, dense = (
        _items(token_nats(model, features_NID, captions, config), captions, held_out.item_N)
        for captions in (held_out.short, held_out.dense)
    )
    return {"held_out_caption_loss": (short + dense).value}


def _pixels(model: EncoderDecoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    config = encoded.config
    some = prepared.held_out.first(config.evaluation.num_pairs)
    return {
        name: Measured(
            Items.of(some.item_N, pixel_errors(model, some, fraction, config, encoded.world)),
            f"{len(some):,} held-out pairs, prefix {fraction:g} of the image",
        )
        for name, fraction in pixel_losses(config).items()
    }


def _pixel_curve(model: EncoderDecoder, held_out: HeldOut, config: RunConfig) -> dict[str, float]:
    return {"held_out_pixel_loss": float(pixel_errors(model, held_out, 0.5, config).mean())}


def _retrieval(model: DualEncoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
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


def _retrieval_curve(model: DualEncoder, held_out: HeldOut, config: RunConfig) -> dict[str, float]:
    image_NS, text_NS = embeddings(model, held_out, config)
    label_N = caption_labels(held_out.dense.token_NT)
    return {"held_out_recall": float(hits(image_NS, text_NS, label_N, k=1).mean())}


# How a report is measured at the end of a run, and as a point of the held-out curve.
REPORTS: dict[Report, tuple[Callable[..., dict[str, Measured]], Callable[..., dict[str, float]]]] = {
    "captions": (_captions, _caption_curve),
    "pixels": (_pixels, _pixel_curve),
    "retrieval": (_retrieval, _retrieval_curve),
}


class Probes(NamedTuple):
    """Attentive probes and k nearest neighbours on the same features.

    Attributes:
        splits: computes the features with all ranks, when it is first called.
        measures: by name; each measures on this rank alone.
        world: ranks that each measure some of them.
    """

    splits: Callable[[], list[Tensor]]
    measures: dict[str, Callable[[], dict[str, Measured]]]
    world: World

    def measured(self, part: Part) -> dict[str, Measured]:
        """Measure as many at once as there are ranks; probes first, because nearest neighbours take less time."""
        order = sorted(self.measures, key=lambda name: name.startswith("knn_"))
        found: dict[str, Measured] = {}
        for start in range(0, len(order), self.world.size):
            found |= part(order[start : start + self.world.size], self._measure)
        return {name: found[name] for name in self.measures if name in found}

    def _measure(self, names: Sequence[str]) -> list[dict[str, Measured]]:
        self.splits()  # together, before each rank is on its own
        return [_finite(found) for found in self.world.divided(names, lambda name: self.measures[name]())]


def probes(encoded: Encoded, found: TransferSet, config: RunConfig) -> Iterator[Probes]:
    """Yield the measurements on a labelled set: with full attention in the encoder, and on scenes with causal
    attention too."""
    is_of_scenes = all(task.name in SCENE_TASKS for task in found.tasks)
    for is_causal in (False, True) if is_of_scenes else (False,):
        splits = cache(partial(_splits, encoded, found, is_causal=is_causal))
        measures: dict[str, Callable[[], dict[str, Measured]]] = {}
        for task in found.tasks:
            name = f"causal_probe_{task.name}" if is_causal else f"probe_{task.name}"
            measures[name] = partial(_probe, name, splits, task, found.item_N, config, is_causal=is_causal)
            if not is_causal:
                name = f"knn_{task.name}"
                measures[name] = partial(_neighbours, name, splits, task, found.item_N, config)
        yield Probes(splits, measures, encoded.world)


def _splits(encoded: Encoded, found: TransferSet, *, is_causal: bool) -> list[Tensor]:
    """Return the features of the training, validation and test images."""
    return [
        encoded.of(images, is_causal=is_causal, is_whole=found.is_whole)
        for images in (found.train, found.validation, found.test)
    ]


def _labelled(splits: Sequence[Tensor], task: Task) -> list[Features]:
    labels = (task.train_NK, task.validation_NK, task.test_NK)
    return [
        Features(features, torch.from_numpy(label_NK).to(features.device))
        for features, label_NK in zip(splits, labels, strict=True)
    ]


def _probe(
    name: str,
    splits: Callable[[], list[Tensor]],
    task: Task,
    item_N: np.ndarray,
    config: RunConfig,
    *,
    is_causal: bool,
) -> dict[str, Measured]:
    train, validation, test = _labelled(splits(), task)
    grid = config.evaluation.probe
    probed = attentive_probe(train, validation, test, task.num_classes, grid, seed=config.seed)
    setting = f"lr {probed.learning_rate:g} and weight decay {probed.weight_decay:g}"
    attention = "causal" if is_causal else "full"
    how = (
        f"attentive probe, {attention} attention, {_size(task)}, {setting} chosen on {len(validation.label_NK):,}"
        " validation images"
    )
    rates = grid.learning_rates
    is_edge = len(rates) > 1 and probed.learning_rate in (min(rates), max(rates))
    warning = f"the best learning rate, {probed.learning_rate:g}, is at the edge of the grid" if is_edge else ""
    return {name: Measured(Items.of(item_N, *probed.score), how, warning)}


def _neighbours(
    name: str, splits: Callable[[], list[Tensor]], task: Task, item_N: np.ndarray, config: RunConfig
) -> dict[str, Measured]:
    train, _, test = _labelled(splits(), task)
    num_neighbours = min(config.evaluation.knn_neighbours, len(train.label_NK))
    score = knn_score(train, test, task.num_classes, num_neighbours)
    how = f"{num_neighbours} nearest neighbours, full attention, {_size(task)}"
    return {name: Measured(Items.of(item_N, *score), how)}


def _size(task: Task) -> str:
    return f"{len(task.test_NK):,} test images, {task.num_classes} classes"
