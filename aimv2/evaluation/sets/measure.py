"""One evaluation: the splits of a set, their features, and the results of all methods. Letters: N rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from aimv2.base.errors import UsageError, unknown
from aimv2.datasets import labels
from aimv2.datasets.description import LabelledDescription, Location
from aimv2.datasets.images import Bad
from aimv2.datasets.records import Records
from aimv2.tools.evaluate.encoding.features import Extraction, Saved, Split, check_rate, check_room, extracted
from aimv2.tools.evaluate.encoding.models import Model
from aimv2.tools.evaluate.methods import heads, intervals, language
from aimv2.tools.evaluate.methods.heads import Labelled, Task
from aimv2.tools.evaluate.options import METHODS, NEEDS, Kind, Method, Options
from aimv2.tools.evaluate.progress import Advance, counted, progress
from aimv2.tools.evaluate.recipes import RECIPES, Recipe, warnings
from aimv2.tools.evaluate.report import MEAN_PER_CLASS, Result, published
from aimv2.tools.weights.files import count

Open = Callable[[Location], Records]  # aimv2.datasets.open.open_location


class Outcome(NamedTuple):
    """Results, numbers of images and unusable images by split, the number of classes, and sentences of warning."""

    results: list[Result]
    totals: dict[str, int]
    bad: dict[str, list[Bad]]
    num_classes: int
    warnings: list[str]


def recipe_of(description: LabelledDescription) -> Recipe | None:
    """Return the recipe that a description names; an unknown name is a UsageError."""
    if not description.recipe:
        return None
    if description.recipe not in RECIPES:
        raise unknown("recipe", description.recipe, RECIPES)
    return RECIPES[description.recipe]


def chosen_methods(
    description: LabelledDescription, model: Model, wanted: Sequence[Method] | None, *, has_area: bool = False
) -> list[Method]:
    """Return the methods to measure: those that are wanted, or all that set and weights allow.

    Args:
        has_area: images keep their own sizes, and so have no equal numbers of patches.

    Raises:
        UsageError: a method that is wanted is not possible, or none is.
    """
    why_not = {method: _why_not(method, description, model) for method in METHODS}
    if has_area:
        why_not["probe"] = "with area=, images have different numbers of patches; linear and knn read their means"
    if wanted is None:
        found = [method for method in METHODS if not why_not[method]]
        if not found:
            raise UsageError(f"nothing can be measured: {'; '.join(dict.fromkeys(why_not.values()))}")
        return found
    for method in wanted:
        if why_not[method]:
            raise UsageError(f"methods: {method} is not possible, because {why_not[method]}")
    return list(dict.fromkeys(wanted))


def _why_not(method: Method, description: LabelledDescription, model: Model) -> str:
    if method == "retrieval" and not description.captions:
        return f"{description.name} has no captions"
    if method != "retrieval" and not description.label:
        return f"{description.name} has no label"
    if NEEDS[method] == "embedding":
        return "" if model.texts else model.no_texts
    return "" if description.train else f"{description.name} has no train"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An evaluation of a model on a set.

    Attributes:
        open_location: ``aimv2.datasets.open.open_location``.
    """

    description: LabelledDescription
    extraction: Extraction
    wanted: Sequence[Method]
    options: Options
    console: Console
    open_location: Open

    @property
    def _has_training(self) -> bool:
        return any(NEEDS[method] != "embedding" for method in self.wanted)

    def run(self) -> Outcome | None:
        """Compute features with all ranks, and measure on rank 0; None on the others.

        Raises:
            UsageError: the data are not as described, or the disk has no room.
            RunFailedError: too many images cannot be used.
        """
        splits = self._splits()
        kinds = {name: self._kinds(name) for name in splits}
        is_first = self.extraction.ranks.rank == 0
        # Before hours of encoding, because labels may be wrong.
        texts = {name: self._labels(split) for name, split in splits.items()} if is_first else {}
        numbers = self._class_numbers(texts)
        if is_first:
            check_room(self.extraction, [(split, kinds[name]) for name, split in splits.items()], self.console)
        self.extraction.ranks.gathered(None)  # the sizes of what is missing were read before anything is written
        saved = {name: extracted(self.extraction, split, kinds[name], self.console) for name, split in splits.items()}
        return self._measured(splits, saved, texts, numbers) if is_first else None

    def _splits(self) -> dict[str, Split]:
        places = {"test": self.description.test}
        if self._has_training and self.description.train:
            places |= {"train": self.description.train}
            if self.description.validation:
                places |= {"validation": self.description.validation}
        return {name: Split(name, place, self.open_location(place)) for name, place in places.items()}

    def _kinds(self, split: str) -> list[Kind]:
        kinds: list[Kind] = ["mean"]
        if "probe" in self.wanted:
            kinds.append("patches")
        if split == "test" and any(NEEDS[method] == "embedding" for method in self.wanted):
            kinds.append("embedding")
        return kinds

    def _labels(self, split: Split) -> labels.Labels:
        if not self.description.label or self.wanted == ["retrieval"]:
            return labels.Labels([], [])
        rows = range(len(split.records))
        with progress(self.console, f"reading labels of {split.name}", len(rows), is_kept=False) as advance:
            found = labels.read_labels(split.records, self.description.label, split.name, counted(rows, advance))
        check_rate(found.bad, len(split.records), self.options.max_bad_rate, split.name)
        return found

    def _class_numbers(self, texts: dict[str, labels.Labels]) -> dict[str, int]:
        """Return the number of each class: of the training images, or else of those that are named or tested."""
        if not texts or not texts["test"].text_N:
            return {}
        others = [text for name, found in texts.items() if name != "train" for text in found.text_N]
        if "train" in texts:
            return labels.class_numbers(texts["train"].text_N, others)
        return {name: number for number, name in enumerate(sorted({*self.description.classes, *others} - {""}))}

    def _measured(
        self,
        splits: dict[str, Split],
        saved: dict[str, Saved],
        texts: dict[str, labels.Labels],
        numbers: dict[str, int],
    ) -> Outcome:
        bad = {name: sorted({*saved[name].bad, *texts[name].bad}) for name in splits}
        totals = {name: len(split.records) for name, split in splits.items()}
        parts = {
            name: self._labelled(saved[name], texts[name], labels.usable(totals[name], bad[name]), numbers)
            for name in splits
            if texts[name].text_N
        }
        results = self._with_training(splits, parts, len(numbers)) if "train" in parts else []
        if "zero_shot" in self.wanted:
            results += self._zero_shot(saved["test"], parts["test"], numbers)
        if "retrieval" in self.wanted:
            row_N, field = labels.usable(totals["test"], saved["test"].bad), self.description.captions
            captions, without = labels.read_captions(splits["test"].records, field or "", row_N.tolist())
            bad["test"] = sorted({*bad["test"], *without})
            check_rate(without, totals["test"], self.options.max_bad_rate, "test")
            results += self._retrieval(saved["test"], captions)
        doubts = []
        if (recipe := recipe_of(self.description)) is not None:
            num_train = sum(totals.get(name, 0) for name in ("train", "validation"))
            doubts = warnings(recipe, num_train=num_train, num_test=totals["test"], num_classes=len(numbers))
        return Outcome(results, totals, bad, len(numbers), doubts)

    def _labelled(self, saved: Saved, texts: labels.Labels, row_N: np.ndarray, numbers: dict[str, int]) -> Labelled:
        class_N = torch.tensor([numbers[texts.text_N[row]] for row in row_N.tolist()], dtype=torch.int64)
        return Labelled(saved.features.get("patches"), saved.features["mean"], torch.from_numpy(row_N), class_N)

    def _with_training(self, splits: dict[str, Split], parts: dict[str, Labelled], num_classes: int) -> list[Result]:
        train = parts["train"]
        validation = parts.get("validation")
        if validation is None:
            is_validation_N = torch.from_numpy(labels.is_validation(splits["train"].records, train.row_N.numpy()))
            train, validation = train.only(~is_validation_N), train.only(is_validation_N)
        if not (len(train) and len(validation) and len(parts["test"])):
            raise UsageError(
                f"{self.description.name}: {len(train)} training, {len(validation)} validation and"
                f" {len(parts['test'])} test images are usable; each split needs some"
            )
        task = Task(train, validation, parts["test"], num_classes, torch.device(self.extraction.device))
        options = self.options
        # The number of steps that each shows, and its measurement.
        measures: dict[Method, tuple[int, Callable[[Advance], heads.Measured]]] = {
            "probe": (
                heads.probe_steps(task, options.probe),
                lambda advance: heads.probe(task, options.probe, options.seed, advance),
            ),
            "linear": (len(set(options.linear.l2)) + 1, lambda advance: heads.linear(task, options.linear, advance)),
            "knn": (
                len(task.validation) + len(task.test),
                lambda advance: heads.knn(task, options.knn.neighbours, advance),
            ),
        }
        results = []
        for method, (total, measure) in measures.items():
            if method in self.wanted:
                with progress(self.console, f"fitting {method}", total) as advance:
                    found = measure(advance)
                results += self._accuracies(method, found, parts["test"].class_N.numpy())
        return results

    def _zero_shot(self, saved: Saved, test: Labelled, numbers: dict[str, int]) -> list[Result]:
        names, prompts = labels.class_names(numbers, self.description.classes), self.description.prompts
        texts = [prompt.replace("{}", names[name]) for name in numbers for prompt in prompts]
        text_XS = self._embedded(texts)
        class_CS = language.class_vectors(text_XS.unflatten(0, (len(numbers), len(prompts))))
        image_NS = saved.features["embedding"][test.row_N].to(class_CS.device)
        is_right_N = language.nearest(image_NS, class_CS, 1)[:, 0] == test.class_N
        how = f"zero-shot with {count(len(prompts), 'prompt')}, {len(test):,} test images, {len(numbers):,} classes"
        return self._accuracies("zero_shot", heads.Measured(is_right_N.numpy(), how, {}), test.class_N.numpy())

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        """Return the unit vectors of texts: float32 [M, S]."""
        own = self.extraction
        with progress(self.console, "encoding texts", len(texts)) as advance:
            return language.embed(own.model, texts, own.device, own.precision, advance)

    def _accuracies(self, method: Method, found: heads.Measured, class_N: np.ndarray) -> list[Result]:
        beside = published(recipe_of(self.description), method, self.extraction.model)
        accuracy, mean = intervals.share(found.is_right_N), intervals.mean_per_class(found.is_right_N, class_N)
        return [
            Result(
                name=method,
                estimate=accuracy,
                how=found.how,
                settings=found.settings,
                warning=found.warning,
                published=beside,
            ),
            Result(name=f"{method}{MEAN_PER_CLASS}", estimate=mean, how="mean over classes of their accuracies"),
        ]

    def _retrieval(self, saved: Saved, captions: dict[int, list[str]]) -> list[Result]:
        every = dict.fromkeys(text for texts in captions.values() for text in texts)
        unique = {text: number for number, text in enumerate(every)}
        text_US = self._embedded(list(unique))
        image_NS = saved.features["embedding"][torch.tensor(list(captions))].to(text_US.device)
        text_of = [[unique[text] for text in texts] for texts in captions.values()]
        how = f"{len(text_of):,} test images, {sum(map(len, text_of)):,} captions, {len(unique):,} different"
        return [
            Result(name=name, estimate=intervals.ratio(hits.num_hits_N, hits.num_queries_N), how=how)
            for name, hits in language.retrieval(image_NS, text_US, text_of).items()
        ]
