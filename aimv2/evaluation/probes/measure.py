"""The probes of a run: on the tasks of transfer sets, several ranks at once."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.config.run_config import RunConfig
from aimv2.data.transfer import Task, TransferSet
from aimv2.evaluation.features import Encoded
from aimv2.evaluation.parts import Measured, Part, finite
from aimv2.evaluation.probes.attentive import attentive_probe
from aimv2.evaluation.probes.neighbours import knn_score
from aimv2.evaluation.probes.splits import Features
from aimv2.spec.items import Items
from aimv2.spec.metrics import SCENE_TASKS
from aimv2.training.world import World


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
        return [finite(found) for found in self.world.divided(names, lambda name: self.measures[name]())]


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
