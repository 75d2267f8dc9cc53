"""One evaluation: the splits of a set, their features, and the results of all methods. Letters: N images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from aimv2.base.errors import UsageError, count
from aimv2.datasets.description import LabelledDescription
from aimv2.datasets.images import Unusable, check_rate
from aimv2.datasets.labelled import Labels, class_numbers, is_validation, read_labels
from aimv2.datasets.open import open_location
from aimv2.evaluation.probes.attentive import attentive_probe, num_steps
from aimv2.evaluation.probes.neighbours import knn
from aimv2.evaluation.probes.splits import Chosen, Features, Splits
from aimv2.tools.evaluate import language
from aimv2.tools.evaluate.features import Extraction, Saved, Split, check_room, saved
from aimv2.tools.evaluate.linear import linear_probe
from aimv2.tools.evaluate.models import Model
from aimv2.tools.evaluate.options import METHODS, NEEDS, EvaluateOptions, FeatureKind, Method
from aimv2.tools.evaluate.recipes import recipe_of
from aimv2.tools.evaluate.results import Result, accuracies, ratio

HOW = {
    "probe": "attentive probe of {epochs} epochs, without augmentation, lr {learning_rate:g} and weight decay"
    " {weight_decay:g}",
    "linear": "logistic regression on mean features, l2 {l2:g}",
    "knn": "{neighbours} nearest neighbours by cosine distance of mean features",
}


class Outcome(NamedTuple):
    """Results, numbers of images and unusable images by split, the number of classes, and sentences of warning."""

    results: list[Result]
    totals: dict[str, int]
    unusable: dict[str, list[Unusable]]
    num_classes: int
    warnings: list[str]


class Usable(NamedTuple):
    """The usable images of a split: features of all rows by kind, the rows that are used, and their classes.

    Attributes:
        row_N: int64, ascending.
        class_N: int64.
    """

    features: dict[FeatureKind, Tensor]
    row_N: Tensor
    class_N: Tensor

    def only(self, chosen_N: Tensor) -> "Usable":
        """Return some of the images, where bool [N] is True."""
        return self._replace(row_N=self.row_N[chosen_N], class_N=self.class_N[chosen_N])

    def patches(self) -> Features:
        """Return features of patches, which stay in their file."""
        return Features(self.features["patches"], self.class_N[:, None], self.row_N)

    def means(self, device: str) -> Features:
        """Return mean features as those of one patch, float64, on the device."""
        mean_ND = self.features["mean"][self.row_N].to(device).double()
        return Features(mean_ND[:, None], self.class_N[:, None].to(device))


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
    """An evaluation of a model on a set by some methods."""

    description: LabelledDescription
    extraction: Extraction
    methods: Sequence[Method]
    options: EvaluateOptions

    def run(self) -> Outcome | None:
        """Compute features with all ranks, and measure on rank 0; None on the others.

        Raises:
            UsageError: the data are not as described, or the disk has no room.
            RunFailedError: too many images cannot be used.
        """
        splits = self._splits()
        kinds = {name: self._kinds(name) for name in splits}
        is_first = self.extraction.world.rank == 0
        # Before hours of encoding, because labels may be wrong.
        labels = {name: self._labels(split) for name, split in splits.items()} if is_first else {}
        numbers = self._class_numbers(labels)
        if is_first:
            check_room(self.extraction, [(split, kinds[name]) for name, split in splits.items()])
        features = {name: saved(self.extraction, split, kinds[name]) for name, split in splits.items()}
        return self._measured(splits, features, labels, numbers) if is_first else None

    def _splits(self) -> dict[str, Split]:
        described = self.description
        cache = str(Path(self.options.cache_dir) / "shards"), int(self.options.cache_gb * 1e9)
        places = {"test": described.test}
        if described.train and any(NEEDS[method] != "embedding" for method in self.methods):
            places |= {"train": described.train}
            places |= {"validation": described.validation} if described.validation else {}
        return {name: Split(name, place, open_location(place, *cache)) for name, place in places.items()}

    def _kinds(self, split: str) -> list[FeatureKind]:
        kinds: list[FeatureKind] = ["mean"]
        if "probe" in self.methods:
            kinds.append("patches")
        if split == "test" and any(NEEDS[method] == "embedding" for method in self.methods):
            kinds.append("embedding")
        return kinds

    def _labels(self, split: Split) -> Labels:
        if not self.description.label or self.methods == ["retrieval"]:
            return Labels([], [])
        rows, console = range(len(split.records)), self.extraction.console
        is_hidden = console.quiet or not console.is_terminal
        title = f"reading labels of {split.name}"
        shown = track(rows, title, console=console, transient=True, disable=is_hidden)
        found = read_labels(split.records, self.description.label, split.name, shown)
        check_rate(found.unusable, len(rows), self.options.max_bad_rate, split.name)
        return found

    def _class_numbers(self, labels: dict[str, Labels]) -> dict[str, int]:
        """Return the number of each class: of the training images, or else of those that are named or tested."""
        if not labels or not labels["test"].text_N:
            return {}
        others = [text for name, found in labels.items() if name != "train" for text in found.text_N]
        if "train" in labels:
            return class_numbers(labels["train"].text_N, others)
        return {name: number for number, name in enumerate(sorted({*self.description.classes, *others} - {""}))}

    def _measured(
        self,
        splits: dict[str, Split],
        features: dict[str, Saved],
        labels: dict[str, Labels],
        numbers: dict[str, int],
    ) -> Outcome:
        unusable = {name: sorted({*features[name].unusable, *labels[name].unusable}) for name in splits}
        totals = {name: len(split.records) for name, split in splits.items()}
        parts = {
            name: _usable(features[name], labels[name], totals[name], unusable[name], numbers)
            for name in splits
            if labels[name].text_N
        }
        results = self._with_training(splits, parts, len(numbers)) if "train" in parts else []
        if "zero_shot" in self.methods:
            results += self._zero_shot(parts["test"], numbers)
        if "retrieval" in self.methods:
            row_N, field = _rows_without(features["test"].unusable, totals["test"]), self.description.captions
            captions, without = language.read_captions(splits["test"].records, field or "", row_N.tolist())
            unusable["test"] = sorted({*unusable["test"], *without})
            check_rate(without, totals["test"], self.options.max_bad_rate, "test")
            results += self._retrieval(features["test"], captions)
        doubts = []
        if (recipe := recipe_of(self.description.recipe)) is not None:
            num_train = sum(totals.get(name, 0) for name in ("train", "validation"))
            doubts = recipe.warnings(num_train=num_train, num_test=totals["test"], num_classes=len(numbers))
        return Outcome(results, totals, unusable, len(numbers), doubts)

    def _with_training(self, splits: dict[str, Split], parts: dict[str, Usable], num_classes: int) -> list[Result]:
        train, test = parts["train"], parts["test"]
        validation = parts.get("validation")
        if validation is None:
            is_validation_N = torch.from_numpy(is_validation(splits["train"].records, train.row_N.numpy()))
            train, validation = train.only(~is_validation_N), train.only(is_validation_N)
        sizes = tuple(len(part.row_N) for part in (train, validation, test))
        if not all(sizes):
            raise UsageError(
                f"{self.description.name}: {sizes[0]} training, {sizes[1]} validation and {sizes[2]} test images are"
                " usable; each split needs some"
            )
        size = (
            f"{sizes[2]:,} test images, {num_classes:,} classes; chosen on {sizes[1]:,} validation images, then fitted"
            f" on {sizes[0] + sizes[1]:,}"
        )
        results = []
        for method, (total, measure) in self._measures((train, validation, test), sizes, num_classes).items():
            if method in self.methods:
                with self.extraction.progress(f"fitting {method}", total) as advance:
                    found = measure(advance)
                how = HOW[method].format(epochs=self.options.probe.epochs, **found.settings)
                facts = {"how": f"{how}, {size}", "settings": found.settings, "warning": found.warning}
                results += self._accuracies(method, found.score.num_right_N > 0, test, **facts)
        return results

    def _measures(
        self, parts: tuple[Usable, Usable, Usable], sizes: tuple[int, ...], num_classes: int
    ) -> dict[Method, tuple[int, Callable[[Callable[[int], None]], Chosen]]]:
        """Return the number of steps that each method shows, and its measurement."""
        options, device = self.options, self.extraction.device

        def probe(advance: Callable[[int], None]) -> Chosen:
            return attentive_probe(
                Splits(num_classes, *(part.patches() for part in parts)),
                options.probe,
                seed=options.seed,
                warmup_epochs=options.probe.warmup_epochs,
                is_refitted=True,
                device=torch.device(device),
                on_step=partial(advance, 1),
            )

        def means() -> Splits:
            return Splits(num_classes, *(part.means(device) for part in parts))

        num_train, num_validation, num_test = sizes
        steps = sum(num_steps(number, options.probe) for number in (num_train, num_train + num_validation))
        return {
            "probe": (steps, probe),
            "linear": (
                len(set(options.linear.l2)) + 1,
                lambda advance: linear_probe(means(), options.linear, advance),
            ),
            "knn": (num_validation + num_test, lambda advance: knn(means(), options.knn.neighbours, advance)),
        }

    def _zero_shot(self, test: Usable, numbers: dict[str, int]) -> list[Result]:
        names, prompts = language.class_names(numbers, self.description.classes), self.description.prompts
        texts = [prompt.replace("{}", names[name]) for name in numbers for prompt in prompts]
        text_XS = language.embed(self.extraction, texts)
        class_CS = language.class_vectors(text_XS.unflatten(0, (len(numbers), len(prompts))))
        image_NS = test.features["embedding"][test.row_N].to(class_CS.device)
        is_right_N = (language.nearest(image_NS, class_CS, 1)[:, 0] == test.class_N).numpy()
        how = (
            f"zero-shot with {count(len(prompts), 'prompt')}, {len(is_right_N):,} test images, {len(numbers):,} classes"
        )
        return self._accuracies("zero_shot", is_right_N, test, how=how)

    def _accuracies(self, method: Method, is_right_N: np.ndarray, test: Usable, **facts: Any) -> list[Result]:
        recipe = recipe_of(self.description.recipe)
        beside = recipe.beside(method, self.extraction.model.config.encoder.width) if recipe else {}
        return accuracies(method, is_right_N, test.class_N.numpy(), published=beside, **facts)

    def _retrieval(self, features: Saved, captions: dict[int, list[str]]) -> list[Result]:
        every = dict.fromkeys(text for texts in captions.values() for text in texts)
        unique = {text: number for number, text in enumerate(every)}
        text_US = language.embed(self.extraction, list(unique))
        image_NS = features.features["embedding"][torch.tensor(list(captions))].to(text_US.device)
        text_of = [[unique[text] for text in texts] for texts in captions.values()]
        how = f"{len(text_of):,} test images, {sum(map(len, text_of)):,} captions, {len(unique):,} different"
        return [
            Result(name=name, estimate=ratio(hits.num_hits_N, hits.num_queries_N), how=how)
            for name, hits in language.retrieval(image_NS, text_US, text_of).items()
        ]


def _usable(
    features: Saved, labels: Labels, num_rows: int, unusable: Sequence[Unusable], numbers: dict[str, int]
) -> Usable:
    row_N = _rows_without(unusable, num_rows)
    class_N = torch.tensor([numbers[labels.text_N[row]] for row in row_N.tolist()], dtype=torch.int64)
    return Usable(features.features, torch.from_numpy(row_N), class_N)


def _rows_without(unusable: Sequence[Unusable], num_rows: int) -> np.ndarray:
    """Return the other rows: int64, ascending."""
    return np.delete(np.arange(num_rows), [each.row for each in unusable])
