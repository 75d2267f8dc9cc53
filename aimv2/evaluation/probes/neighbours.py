"""The vote of the k nearest training images, by the mean of a frozen encoder's features.

Votes are weighted by inverse cosine distance; images at distance 0 outvote all others, and those without the label do
not vote. With fewer than k training images, all vote.

Letters: N and B images, D width, K labels of an image, C classes, M nearest neighbours.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.data.transfer import NO_LABEL
from aimv2.evaluation.probes.splits import Chosen, Features, Score, Splits, chunks, scored
from aimv2.memory.evaluation import NEIGHBOURS

NO_DISTANCE = 1e-12  # cosine distances below are rounding
SIMILARITIES = 2**27  # of test and training images, computed at once


def knn(splits: Splits, neighbours: Sequence[int], advance: Callable[[int], None]) -> Chosen:
    """Choose the number of neighbours on validation; training and validation images together then vote on the test.

    Args:
        advance: called with the number of images of each part of validation, and then of the test.
    """
    num_classes, train, validation, test = splits
    scores = knn_scores(train, validation, num_classes, neighbours, advance)
    best = max(range(len(neighbours)), key=lambda place: (scores[place].num_right_N.sum(), -neighbours[place]))
    both = Features(
        torch.cat([train.feature_NID, validation.feature_NID]), torch.cat([train.label_NK, validation.label_NK])
    )
    (score,) = knn_scores(both, test, num_classes, [neighbours[best]], advance)
    is_largest = len(neighbours) > 1 and neighbours[best] == max(neighbours)
    warning = f"the best number of neighbours, {neighbours[best]}, is the largest of the grid" if is_largest else ""
    return Chosen(score, {"neighbours": neighbours[best]}, warning)


def knn_scores(
    train: Features,
    test: Features,
    num_classes: int,
    neighbours: Sequence[int],
    advance: Callable[[int], None] = lambda number: None,
    device: torch.device | None = None,
) -> list[Score]:
    """Score the votes for each label of the test images, for each number of neighbours.

    Args:
        advance: called with the number of test images of each part.
        device: where votes are counted; None is the device of the features.
    """
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
        for found, k in zip(guesses, neighbours, strict=True):
            found.append(_voted(vote_BM[:, :k], label_BMK[:, :k], num_classes))
        advance(len(chunk_BD))
    return [scored(torch.cat(found), test_NK) for found in guesses]


def _means(part: Features, device: torch.device) -> Tensor:
    """Return the mean of each image's features over its patches: [N, D], float32 or wider."""
    dtype = torch.promote_types(part.feature_NID.dtype, torch.float32)
    return torch.cat([chunk_BID.mean(dim=1, dtype=dtype) for chunk_BID in chunks(part.feature_NID, device, part.row_N)])


def _voted(vote_BM: Tensor, label_BMK: Tensor, num_classes: int) -> Tensor:
    """Return the classes with the most votes: int64 [B, K]."""
    # The last class is for no label.
    votes_BKC = vote_BM.new_zeros(len(vote_BM), label_BMK.shape[2], num_classes + 1)
    where_BKM = torch.where(label_BMK == NO_LABEL, num_classes, label_BMK).transpose(1, 2)
    votes_BKC.scatter_add_(2, where_BKM, vote_BM[:, None].expand_as(where_BKM))
    return votes_BKC[..., :num_classes].argmax(dim=-1)
