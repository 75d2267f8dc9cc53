"""The methods that need a training split: attentive probe, linear probe, nearest neighbours.

Settings are chosen on validation. The head with the best setting is then fitted again on training and validation
images together, and measured once on the test images. Letters: N images, I patches, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aimv2.evaluation.probes.attentive import attentive_probe, num_steps
from aimv2.evaluation.probes.neighbours import knn_scores
from aimv2.evaluation.probes.splits import FEATURE_EPS, Features
from aimv2.tools.evaluate.methods.linear import Linear, fit_path
from aimv2.tools.evaluate.options import LinearOptions, ProbeOptions
from aimv2.tools.evaluate.progress import Advance, no_progress


@dataclass(frozen=True, eq=False)
class Labelled:
    """The usable images of a split: features of all rows by kind, the rows that are used, and their classes.

    Attributes:
        row_N: int64, ascending.
        class_N: int64.
    """

    patches: Tensor | None
    mean: Tensor
    row_N: Tensor
    class_N: Tensor

    def __len__(self) -> int:
        return len(self.row_N)

    def only(self, chosen_N: Tensor) -> "Labelled":
        """Return some of the images, where bool [N] is True."""
        return replace(self, row_N=self.row_N[chosen_N], class_N=self.class_N[chosen_N])


class Measured(NamedTuple):
    """Which test images are right (bool [N]), how that was measured, chosen settings, and what makes it doubtful."""

    is_right_N: np.ndarray
    how: str
    settings: dict[str, float]
    warning: str = ""


class Task(NamedTuple):
    """A classification of images in three splits."""

    train: Labelled
    validation: Labelled
    test: Labelled
    num_classes: int
    device: torch.device

    @property
    def size(self) -> str:
        return (
            f"{len(self.test):,} test images, {self.num_classes:,} classes; chosen on {len(self.validation):,}"
            f" validation images, then fitted on {len(self.train) + len(self.validation):,}"
        )


def probe(task: Task, options: ProbeOptions, seed: int, advance: Advance = no_progress) -> Measured:
    """Measure the attentive probe, trained on features of patches without augmentation of images.

    Args:
        advance: called with 1 after each of the ``probe_steps``.
    """
    found = attentive_probe(
        _patches(task.train),
        _patches(task.validation),
        _patches(task.test),
        task.num_classes,
        options,
        seed=seed,
        warmup_epochs=options.warmup_epochs,
        is_refitted=True,
        device=task.device,
        on_step=partial(advance, 1),
    )
    chosen = {"learning_rate": found.learning_rate, "weight_decay": found.weight_decay}
    how = (
        f"attentive probe of {options.epochs} epochs, without augmentation, lr {found.learning_rate:g} and weight decay"
        f" {found.weight_decay:g}, {task.size}"
    )
    warning = _edge("learning rate", found.learning_rate, options.learning_rates)
    return Measured(found.score.num_right_N > 0, how, chosen, warning)


def probe_steps(task: Task, options: ProbeOptions) -> int:
    """Return the steps of training of ``probe``: for the choice of a setting, and for the last fit."""
    sizes = len(task.train), len(task.train) + len(task.validation)
    return sum(num_steps(size, options) for size in sizes)


def _patches(part: Labelled) -> Features:
    assert part.patches is not None, "the probe reads features of patches"
    return Features(part.patches, part.class_N[:, None], part.row_N)


def linear(task: Task, options: LinearOptions, advance: Advance = no_progress) -> Measured:
    """Measure logistic regression on standardised mean features.

    Args:
        advance: called with 1 after each fit: one for each strength of the penalty, and the last.
    """
    train_ND, validation_ND, test_ND = (_means(part, task.device) for part in (task.train, task.validation, task.test))
    mean_D, std_D = train_ND.mean(dim=0), (train_ND.var(dim=0, correction=0) + FEATURE_EPS).sqrt()
    train_ND, validation_ND, test_ND = ((part - mean_D) / std_D for part in (train_ND, validation_ND, test_ND))
    train_N, validation_N, test_N = (part.class_N.to(task.device) for part in (task.train, task.validation, task.test))

    def fitted(feature_ND: Tensor, class_N: Tensor, l2: Sequence[float]) -> list[Linear]:
        return fit_path(feature_ND, class_N, task.num_classes, l2, options.max_iterations, advance)

    def quality(fit: Linear) -> tuple[float, float]:
        num_right = float((fit.guesses(validation_ND) == validation_N).sum())
        return num_right, -fit.loss(validation_ND, validation_N)

    fits = fitted(train_ND, train_N, options.l2)
    best = options.l2[max(range(len(fits)), key=lambda place: quality(fits[place]))]
    (last,) = fitted(torch.cat([train_ND, validation_ND]), torch.cat([train_N, validation_N]), [best])
    doubts = [_edge("l2", best, options.l2)]
    if not all(fit.is_converged for fit in (*fits, last)):
        doubts.append(f"a fit did not converge in {options.max_iterations} iterations; raise linear.max_iterations")
    return Measured(
        (last.guesses(test_ND) == test_N).cpu().numpy(),
        f"logistic regression on mean features, l2 {best:g}, {task.size}",
        {"l2": best},
        "; ".join(filter(None, doubts)),
    )


def knn(task: Task, neighbours: Sequence[int], advance: Advance = no_progress) -> Measured:
    """Measure the vote of the nearest images by cosine distance of mean features, weighted by inverse distance.

    Args:
        advance: called with the number of images of each part of validation, and then of the test.
    """
    parts = [
        Features(_means(part, task.device)[:, None], part.class_N[:, None].to(task.device))
        for part in (task.train, task.validation, task.test)
    ]
    train, validation, test = parts
    scores = knn_scores(train, validation, task.num_classes, neighbours, advance)
    best = max(range(len(neighbours)), key=lambda place: (scores[place].num_right_N.sum(), -neighbours[place]))
    both = Features(*(torch.cat([getattr(part, name) for part in parts[:2]]) for name in ("feature_NID", "label_NK")))
    (score,) = knn_scores(both, test, task.num_classes, [neighbours[best]], advance)
    is_largest = len(neighbours) > 1 and neighbours[best] == max(neighbours)
    warning = f"the best number of neighbours, {neighbours[best]}, is the largest of the grid" if is_largest else ""
    how = f"{neighbours[best]} nearest neighbours by cosine distance of mean features, {task.size}"
    return Measured(score.num_right_N > 0, how, {"neighbours": neighbours[best]}, warning)


def _means(part: Labelled, device: torch.device) -> Tensor:
    return part.mean[part.row_N].to(device).double()


def _edge(what: str, best: float, grid: Sequence[float]) -> str:
    is_edge = len(grid) > 1 and best in (min(grid), max(grid))
    return f"the best {what}, {best:g}, is at the edge of the grid" if is_edge else ""
