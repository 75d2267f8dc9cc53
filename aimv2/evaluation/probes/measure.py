"""The probes of a run: on the tasks of transfer sets, several ranks at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from aimv2.data.transfer import Task, TransferSet
from aimv2.evaluation.features import Encoded
from aimv2.evaluation.parts import Measured, MeasureParts, finite
from aimv2.evaluation.probes.attentive import attentive_probe
from aimv2.evaluation.probes.neighbours import knn_scores
from aimv2.evaluation.probes.splits import Features, Splits
from aimv2.spec.items import Items
from aimv2.spec.metrics import SCENE_TASKS
from aimv2.training.world import World


def measure(encoded: Encoded, sets: Iterable[TransferSet], part: MeasureParts) -> dict[str, Measured]:
    """Measure attentive probes and nearest neighbours on labelled sets.

    The encoder has full attention, and on scenes causal attention too. Features are computed with all ranks; each rank
    then measures some of the probes alone.

    Args:
        part: called with the names of as many metrics as there are ranks.
    """
    measured: dict[str, Measured] = {}
    for found in sets:
        is_of_scenes = all(task.name in SCENE_TASKS for task in found.tasks)
        for is_causal in (False, True) if is_of_scenes else (False,):
            features = cache(partial(_features, encoded, found, is_causal=is_causal))
            measures = _measures(features, encoded, found, is_causal=is_causal)
            measured |= _measured(measures, features, part, encoded.world)
    return measured


def _features(encoded: Encoded, found: TransferSet, *, is_causal: bool) -> list[Tensor]:
    """Return the features of the training, validation and test images."""
    return [
        encoded.of(images, is_causal=is_causal, is_whole=found.is_whole)
        for images in (found.train, found.validation, found.test)
    ]


def _measures(
    features: Callable[[], list[Tensor]], encoded: Encoded, found: TransferSet, *, is_causal: bool
) -> dict[str, Callable[[], Measured]]:
    """Return the measurements by name; each runs on this rank alone."""
    measures: dict[str, Callable[[], Measured]] = {}
    for task in found.tasks:
        splits = partial(_splits, features, task)
        name = f"causal_probe_{task.name}" if is_causal else f"probe_{task.name}"
        measures[name] = partial(_probe, splits, found.item_N, encoded, is_causal=is_causal)
        if not is_causal:
            measures[f"knn_{task.name}"] = partial(_neighbours, splits, found.item_N, encoded)
    return measures


def _measured(
    measures: Mapping[str, Callable[[], Measured]],
    features: Callable[[], list[Tensor]],
    part: MeasureParts,
    world: World,
) -> dict[str, Measured]:
    """Measure as many at once as there are ranks; probes first, because nearest neighbours take less time."""

    def measure(names: Sequence[str]) -> list[dict[str, Measured]]:
        features()  # together, before each rank is on its own
        return [finite(found) for found in world.divided(names, lambda name: {name: measures[name]()})]

    order = sorted(measures, key=lambda name: name.startswith("knn_"))
    found: dict[str, Measured] = {}
    for start in range(0, len(order), world.size):
        found |= part(order[start : start + world.size], measure)
    return {name: found[name] for name in measures if name in found}


def _splits(features: Callable[[], list[Tensor]], task: Task) -> Splits:
    labels = (task.train_NK, task.validation_NK, task.test_NK)
    parts = zip(features(), labels, strict=True)
    return Splits(
        task.num_classes,
        *(Features(feature_NID, torch.from_numpy(label_NK)) for feature_NID, label_NK in parts),
    )


def _probe(splits: Callable[[], Splits], item_N: np.ndarray, encoded: Encoded, *, is_causal: bool) -> Measured:
    config, own = encoded.config, splits()
    found = attentive_probe(own, config.evaluation.probe, seed=config.seed, device=torch.device(config.device))
    how = (
        f"attentive probe, {'causal' if is_causal else 'full'} attention, {_size(own)},"
        f" lr {found.settings['learning_rate']:g} and weight decay {found.settings['weight_decay']:g} chosen on"
        f" {len(own.validation.label_NK):,} validation images"
    )
    return Measured(Items.of(item_N, *found.score), how, found.warning)


def _neighbours(splits: Callable[[], Splits], item_N: np.ndarray, encoded: Encoded) -> Measured:
    own = splits()
    config = encoded.config
    num_neighbours, device = min(config.evaluation.knn_neighbours, len(own.train.label_NK)), torch.device(config.device)
    (score,) = knn_scores(own.train, own.test, own.num_classes, [num_neighbours], device=device)
    return Measured(Items.of(item_N, *score), f"{num_neighbours} nearest neighbours, full attention, {_size(own)}")


def _size(splits: Splits) -> str:
    return f"{len(splits.test.label_NK):,} test images, {splits.num_classes} classes"
