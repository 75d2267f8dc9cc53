"""One evaluation: the splits of a set, their features, and the results of all methods. Letters: N images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from aimv2.base.errors import UsageError, count
from aimv2.datasets.description import LabelledDescription
from aimv2.datasets.labelled import Labels, Unusable, check_rate, class_numbers, is_validation, read_labels
from aimv2.datasets.open import open_location
from aimv2.evaluation.probes.attentive import attentive_probe, num_steps
from aimv2.evaluation.probes.neighbours import knn
from aimv2.evaluation.probes.splits import Chosen, Features, Splits
from aimv2.tools.evaluate import language
from aimv2.tools.evaluate.features import Extraction, Saved, Split, check_room, saved
from aimv2.tools.evaluate.linear import linear_probe
from aimv2.tools.evaluate.models import Model
from aimv2.tools.evaluate.options import METHODS, EvaluateOptions, FeatureKind, Method
from aimv2.tools.evaluate.results import Result, accuracies

HOW = {
    "probe": "attentive probe of {epochs} epochs, without augmentation, lr {learning_rate:g} and weight decay"
    " {weight_decay:g}",
    "linear": "logistic regression on mean features, l2 {l2:g}",
    "knn": "{neighbours} nearest neighbours by cosine distance of mean features",
}


class Outcome(NamedTuple):
    """Results, numbers of images and unusable images by split, and the number of classes."""

    results: list[Result]
    totals: dict[str, int]
    unusable: dict[str, list[Unusable]]
    num_classes: int


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
    why_not = dict[Method, str]()
    if description.train is None:
        why_not |= dict.fromkeys(("probe", "linear", "knn"), f"{description.name} has no train")
    if has_area:
        why_not["probe"] = "with area=, images have different numbers of patches; linear and knn read their means"
    if model.tokenizer is None:
        lacks = "a text encoder but no tokenizer.json beside it; give tokenizer=PATH"
        lacks = lacks if model.pair else "an image encoder but no text encoder"
        why_not["zero_shot"] = f"{model.name} has {lacks}"
    for method in wanted or ():
        if method in why_not:
            raise UsageError(f"methods: {method} is not possible, because {why_not[method]}")
    found = [method for method in METHODS if method not in why_not and method in (wanted or METHODS)]
    if not found:
        raise UsageError(f"nothing can be measured: {'; '.join(dict.fromkeys(why_not.values()))}")
    return found


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An evaluation of a model on a set by some methods."""

    description: LabelledDescription
    extraction: Extraction
    methods: Sequence[Method]
    options: EvaluateOptions

    def run(self) -> Outcome:
        """Compute features that are not saved, and measure.

        Raises:
            UsageError: the data are not as described, or the disk has no room.
            RunFailedError: too many images cannot be used.
        """
        splits = self._splits()
        kinds = {name: self._kinds(name) for name in splits}
        # Before hours of encoding, because labels may be wrong.
        labels = {name: self._labels(split) for name, split in splits.items()}
        numbers = self._class_numbers(labels)
        check_room(self.extraction, [(split, kinds[name]) for name, split in splits.items()])
        features = {name: saved(self.extraction, split, kinds[name]) for name, split in splits.items()}
        unusable = {name: sorted({*features[name].unusable, *labels[name].unusable}) for name in splits}
        parts = {name: _usable(features[name], labels[name], unusable[name], numbers) for name in splits}
        results = self._with_training(splits["train"], parts, len(numbers)) if "train" in splits else []
        if "zero_shot" in self.methods:
            results += self._zero_shot(parts["test"], numbers)
        return Outcome(results, {name: len(split.records) for name, split in splits.items()}, unusable, len(numbers))

    def _splits(self) -> dict[str, Split]:
        cache = str(Path(self.options.cache_dir) / "shards"), int(self.options.cache_gb * 1e9)
        names = ("test",) if self.methods == ["zero_shot"] else ("test", "train", "validation")
        places = {name: place for name in names if (place := getattr(self.description, name))}
        splits = {name: Split(name, place, open_location(place, *cache)) for name, place in places.items()}
        for split in splits.values():
            split.records.check()  # saved features and labels of folders need no file
        return splits

    def _kinds(self, split: str) -> list[FeatureKind]:
        kinds: list[FeatureKind] = ["mean"]
        if "probe" in self.methods:
            kinds.append("patches")
        if split == "test" and "zero_shot" in self.methods:
            kinds.append("embedding")
        return kinds

    def _labels(self, split: Split) -> Labels:
        rows, console = range(len(split.records)), self.extraction.console
        is_hidden = console.quiet or not console.is_terminal
        title = f"reading labels of {split.name}"
        shown = track(rows, title, console=console, transient=True, disable=is_hidden)
        found = read_labels(split.records, self.description.label, split.name, shown)
        check_rate(found.unusable, len(rows), self.options.max_bad_rate, split.name)
        return found

    def _class_numbers(self, labels: dict[str, Labels]) -> dict[str, int]:
        """Return the number of each class: of the training images, or else of those that are named or tested."""
        others = [text for name, found in labels.items() if name != "train" for text in found.text_N]
        if "train" in labels:
            return class_numbers(labels["train"].text_N, others)
        return {name: number for number, name in enumerate(sorted({*self.description.classes, *others} - {""}))}

    def _with_training(self, split: Split, parts: dict[str, Usable], num_classes: int) -> list[Result]:
        train, test = parts["train"], parts["test"]
        validation = parts.get("validation")
        if validation is None:
            is_validation_N = torch.from_numpy(is_validation(split.records, train.row_N.numpy()))
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
                results += accuracies(method, found.score.num_right_N > 0, test.class_N.numpy(), **facts)
        return results

    def _measures(
        self, parts: tuple[Usable, Usable, Usable], sizes: tuple[int, ...], num_classes: int
    ) -> dict[Method, tuple[int, Callable[[Callable[[int], None]], Chosen]]]:
        """Return the number of steps that each method shows, and its measurement."""
        options, device = self.options, self.extraction.device

        def probe(advance: Callable[[int], None]) -> Chosen:
            return attentive_probe(
                patches(),
                options.probe,
                seed=options.seed,
                warmup_epochs=options.probe.warmup_epochs,
                is_refitted=True,
                device=torch.device(device),
                on_step=partial(advance, 1),
            )

        def patches() -> Splits:
            return Splits(num_classes, *(part.patches() for part in parts))

        def means() -> Splits:
            return Splits(num_classes, *(part.means(device) for part in parts))

        _, num_validation, num_test = sizes
        steps = num_steps(patches(), options.probe, is_refitted=True) if "probe" in self.methods else 0
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
        is_right_N = (language.nearest(image_NS, class_CS) == test.class_N).numpy()
        how = (
            f"zero-shot with {count(len(prompts), 'prompt')}, {len(is_right_N):,} test images, {len(numbers):,} classes"
        )
        return accuracies("zero_shot", is_right_N, test.class_N.numpy(), how=how)


def _usable(features: Saved, labels: Labels, unusable: Sequence[Unusable], numbers: dict[str, int]) -> Usable:
    row_N = np.delete(np.arange(len(labels.text_N)), [each.row for each in unusable])
    class_N = torch.tensor([numbers[labels.text_N[row]] for row in row_N.tolist()], dtype=torch.int64)
    return Usable(features.features, torch.from_numpy(row_N), class_N)
