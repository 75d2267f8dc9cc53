"""The probes of a run on labelled images, several ranks at once, and nearest neighbours.

Neighbours are the k nearest training images, by the mean of a frozen encoder's features. Votes are weighted by inverse
cosine distance; images at distance 0 outvote all others, and those without the label do not vote. With fewer than k
training images, all vote.

Letters: N and B images, D width, K labels of an image, C classes, M nearest neighbours.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.data.transfer import NO_LABEL, Task, TransferSet
from aimv2.definitions.items import Items
from aimv2.definitions.metrics import SCENE_TASKS
from aimv2.evaluation.attentive import attentive_probe
from aimv2.evaluation.features import Chosen, Encoded, Features, Score, Splits, in_parts, scored
from aimv2.evaluation.parts import Measured, MeasureParts, finite
from aimv2.memory.evaluation import NEIGHBOURS

NO_DISTANCE = 1e-12  # cosine distances below are rounding
SIMILARITIES = 2**27  # of test and training images, computed at once


def measure(encoded: Encoded, sets: Iterable[TransferSet], part: MeasureParts) -> dict[str, Measured]:
    """Measure attentive probes and nearest neighbours on labelled sets.

    The encoder has full attention, and on scenes causal attention too. Features are computed with all ranks; each rank
    then measures some of the probes alone. ``part`` is called with the names of as many metrics as there are ranks.
    """
    measured: dict[str, Measured] = {}
    for labelled in sets:
        is_of_scenes = all(task.name in SCENE_TASKS for task in labelled.tasks)
        for is_causal in (False, True) if is_of_scenes else (False,):
            measured |= _measure_set(encoded, labelled, part, is_causal=is_causal)
    return measured


def _measure_set(
    encoded: Encoded, labelled: TransferSet, part: MeasureParts, *, is_causal: bool
) -> dict[str, Measured]:
    """Measure as many metrics at once as there are ranks; probes first, because neighbours take less time."""

    @cache
    def features() -> list[Tensor]:
        images_of = (labelled.train, labelled.validation, labelled.test)
        return [encoded.of(images, is_causal=is_causal, is_whole=labelled.is_whole) for images in images_of]

    def splits(task: Task) -> Splits:
        labels = (task.train_NK, task.validation_NK, task.test_NK)
        parts = zip(features(), labels, strict=True)
        return Splits(task.num_classes, *(Features(images, torch.from_numpy(label_NK)) for images, label_NK in parts))

    def measure(names: Sequence[str]) -> list[dict[str, Measured]]:
        features()  # together, before each rank is on its own
        return [finite(found) for found in encoded.world.divided(names, lambda name: {name: measures[name]()})]

    measures: dict[str, Callable[[], Measured]] = {}
    for task in labelled.tasks:
        name = f"causal_probe_{task.name}" if is_causal else f"probe_{task.name}"
        measures[name] = partial(_probe, partial(splits, task), labelled.item_N, encoded, is_causal=is_causal)
        if not is_causal:
            measures[f"knn_{task.name}"] = partial(_neighbours, partial(splits, task), labelled.item_N, encoded)
    order, size = sorted(measures, key=lambda name: name.startswith("knn_")), encoded.world.size
    found: dict[str, Measured] = {}
    for start in range(0, len(order), size):
        found |= part(order[start : start + size], measure)
    return {name: found[name] for name in measures if name in found}


def _probe(splits_of: Callable[[], Splits], item_N: np.ndarray, encoded: Encoded, *, is_causal: bool) -> Measured:
    config, splits = encoded.config, splits_of()
    found = attentive_probe(splits, config.evaluation.probe, seed=config.seed, device=torch.device(config.device))
    how = (
        f"attentive probe, {'causal' if is_causal else 'full'} attention, {_size(splits)},"
        f" lr {found.settings['learning_rate']:g} and weight decay {found.settings['weight_decay']:g} chosen on"
        f" {len(splits.validation.label_NK):,} validation images"
    )
    return Measured(Items.of(item_N, *found.score), how, found.warning)


def _neighbours(splits_of: Callable[[], Splits], item_N: np.ndarray, encoded: Encoded) -> Measured:
    config, splits = encoded.config, splits_of()
    number, device = min(config.evaluation.knn_neighbours, len(splits.train.label_NK)), torch.device(config.device)
    (score,) = knn_scores(splits.train, splits.test, splits.num_classes, [number], device=device)
    return Measured(Items.of(item_N, *score), f"{number} nearest neighbours, full attention, {_size(splits)}")


def _size(splits: Splits) -> str:
    return f"{len(splits.test.label_NK):,} test images, {splits.num_classes} classes"


def knn(splits: Splits, neighbours: Sequence[int]) -> Chosen:
    """Choose the number of neighbours on validation; training and validation images together then vote on the test."""
    num_classes, train, validation, test = splits
    scores = knn_scores(train, validation, num_classes, neighbours)
    best = max(range(len(neighbours)), key=lambda place: (scores[place].num_right_N.sum(), -neighbours[place]))
    both = Features(
        torch.cat([train.feature_NID, validation.feature_NID]), torch.cat([train.label_NK, validation.label_NK])
    )
    (score,) = knn_scores(both, test, num_classes, [neighbours[best]])
    is_largest = len(neighbours) > 1 and neighbours[best] == max(neighbours)
    warning = f"the best number of neighbours, {neighbours[best]}, is the largest of the grid" if is_largest else ""
    return Chosen(score, {"neighbours": neighbours[best]}, warning)


def knn_scores(
    train: Features,
    test: Features,
    num_classes: int,
    neighbours: Sequence[int],
    device: torch.device | None = None,
) -> list[Score]:
    """Score the votes for each label of the test images, for each number of neighbours."""
    device = device or train.feature_NID.device
    unit_train, unit_test = (F.normalize(_means(part, device).double(), dim=1) for part in (train, test))
    train_NK, test_NK = (part.label_NK.to(device) for part in (train, test))
    most = min(max(neighbours), len(unit_train))
    chunk = max(1, min(NEIGHBOURS, SIMILARITIES // len(unit_train)))
    guesses: list[list[Tensor]] = [[] for _ in neighbours]
    for chunk_BD in unit_test.split(chunk):
        similarity_BM, row_BM = (chunk_BD @ unit_train.T).topk(most, dim=1)
        vote_BM = 1 / (1 - similarity_BM).clamp(min=NO_DISTANCE)
        label_BMK = train_NK[row_BM]
        for guess_parts, k in zip(guesses, neighbours, strict=True):
            guess_parts.append(_voted(vote_BM[:, :k], label_BMK[:, :k], num_classes))
    return [scored(torch.cat(guess_parts), test_NK) for guess_parts in guesses]


def _means(part: Features, device: torch.device) -> Tensor:
    """Return the mean of each image's features over its patches: [N, D], float32 or wider."""
    dtype = torch.promote_types(part.feature_NID.dtype, torch.float32)
    return torch.cat(
        [chunk_BID.mean(dim=1, dtype=dtype) for chunk_BID in in_parts(part.feature_NID, device, part.row_N)]
    )


def _voted(vote_BM: Tensor, label_BMK: Tensor, num_classes: int) -> Tensor:
    """Return the classes with the most votes: int64 [B, K]."""
    # The last class is for no label.
    votes_BKC = vote_BM.new_zeros(len(vote_BM), label_BMK.shape[2], num_classes + 1)
    where_BKM = torch.where(label_BMK == NO_LABEL, num_classes, label_BMK).transpose(1, 2)
    votes_BKC.scatter_add_(2, where_BKM, vote_BM[:, None].expand_as(where_BKM))
    return votes_BKC[..., :num_classes].argmax(dim=-1)
