"""``python -m aimv2 evaluate``: measure a frozen encoder on a labelled set in files.

Letters: N images, D width of the features, C classes, P prompts, S width of the space of images and texts.
"""

import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from aimv2.base.errors import UsageError, count
from aimv2.base.files import writable_folder, write_json
from aimv2.config.arguments import HELP, read_options
from aimv2.config.data_config import DataConfig
from aimv2.datasets.description import LabelledDescription, read_labelled
from aimv2.datasets.labelled import (
    NAMED,
    Labels,
    Shape,
    Unusable,
    check_rate,
    class_numbers,
    counts,
    is_validation,
    read_labels,
)
from aimv2.datasets.open import content_version, open_location
from aimv2.evaluation.attentive import attentive_probe, num_steps
from aimv2.evaluation.features import Chosen, Features, Splits, at_edge, scored
from aimv2.evaluation.probes import knn
from aimv2.memory.machine import hardware, has_cuda
from aimv2.tools.features import Extraction, Model, Split, check_room, embed_texts, load_model, saved
from aimv2.tools.options import METHODS, EvaluateOptions, FeatureKind, Method, evaluate_usage
from aimv2.tools.weights import PREPROCESSING

VERSIONED = ("aimv2-ablations", "torch", "numpy", "scipy", "scikit-learn", "pillow")
MAX_LISTED = 100  # unusable images in the JSON file
# Strengths L of the linear probe's penalty L/2 |W|^2, added to the mean cross-entropy of N images: C of scikit-learn is
# 1 / (L N). A fit takes at most so many Newton steps, or ends at a gradient of TOLERANCE.
L2 = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
MAX_ITERATIONS, TOLERANCE = 100, 1e-6
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100, 200)
CHUNK = 1024  # images whose similarities to all classes are in memory at once
HOW = {
    "probe": "attentive probe of {epochs} epochs, without augmentation, lr {learning_rate:g} and weight decay"
    " {weight_decay:g}",
    "linear": "logistic regression on mean features, l2 {l2:g}",
    "knn": "{neighbours} nearest neighbours by cosine distance of mean features",
}

Results = dict[Method, dict[str, Any]]  # value, 95 % interval, how it was measured, settings, warning


def evaluate_command(arguments: Sequence[str]) -> int:
    if not arguments or HELP & set(arguments):
        print(evaluate_usage(), end="")
        return 0 if arguments else 2
    options = read_options(EvaluateOptions, arguments, needs="evaluate needs")
    if options.device == "cuda" and not has_cuda():
        raise UsageError("device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto")
    description, model = read_labelled(Path(options.data)), load_model(Path(options.weights))
    device = options.device if options.device != "auto" else "cuda" if has_cuda() else "cpu"
    model.network.to(device)
    writable_folder(options.to, "to")
    extraction = Extraction(
        model=model,
        shape=_shape(options, model),
        device=device,
        precision={"cuda": "bfloat16", "cpu": "float32"}[device] if options.precision == "auto" else options.precision,
        cache_dir=writable_folder(str(Path(options.cache_dir) / "features"), "cache_dir"),
        console=Console(),
        batch_size=options.batch_size,
        workers=options.workers,
        max_bad_rate=options.max_bad_rate,
    )
    methods = chosen_methods(description, model, options.methods)
    Evaluation(description, extraction, methods, options).run()
    return 0


def _shape(options: EvaluateOptions, model: Model) -> Shape:
    crop = model.preprocessing.crop if options.crop is None else options.crop
    if crop is None:
        raise UsageError(
            f"{PREPROCESSING} of {options.weights} shows images in another way than resized by the shorter side,"
            " bicubic, and cropped to a square; type crop=, such as crop=0.875, to show them so"
        )
    return Shape(model.config.image_px, crop, DataConfig().max_pixels)


def chosen_methods(description: LabelledDescription, model: Model, wanted: Sequence[Method] | None) -> list[Method]:
    """Return the methods to measure: those that are wanted, or all that set and weights allow."""
    why_not = dict[Method, str]()
    if description.train is None:
        why_not |= dict.fromkeys(("probe", "linear", "knn"), f"{description.name} has no train")
    if model.tokenizer is None:
        why_not["zero_shot"] = f"{model.name} is no run that trained a text encoder"
    for method in wanted or ():
        if method in why_not:
            raise UsageError(f"methods: {method} is not possible, because {why_not[method]}")
    methods = [method for method in METHODS if method not in why_not and method in (wanted or METHODS)]
    if not methods:
        raise UsageError(f"nothing can be measured: {'; '.join(dict.fromkeys(why_not.values()))}")
    return methods


class Usable(NamedTuple):
    """The usable images of a split: features of all rows by kind, the rows that are used (ascending), and classes."""

    features: Mapping[FeatureKind, Tensor]
    row_N: Tensor
    class_N: Tensor

    def only(self, chosen_N: Tensor) -> "Usable":
        return self._replace(row_N=self.row_N[chosen_N], class_N=self.class_N[chosen_N])

    def patches(self) -> Features:
        """Return features of patches, which stay in their file."""
        return Features(self.features["patches"], self.class_N[:, None], self.row_N)

    def means(self, device: str) -> Features:
        """Return mean features as those of one patch, float64, on the device."""
        mean_ND = self.features["mean"][self.row_N].to(device).double()
        return Features(mean_ND[:, None], self.class_N[:, None].to(device))


@dataclass(frozen=True)
class Evaluation:
    description: LabelledDescription
    extraction: Extraction
    methods: Sequence[Method]
    options: EvaluateOptions

    def run(self) -> None:
        splits, labels = self._splits(), dict[str, Labels]()
        kinds: list[FeatureKind] = ["mean", "patches"] if "probe" in self.methods else ["mean"]
        kinds_of = {name: kinds + ["embedding"] * (name == "test" and "zero_shot" in self.methods) for name in splits}
        for name, split in splits.items():  # before hours of encoding, because labels may be wrong
            labels[name] = read_labels(split.records, self.description.label, name, range(len(split.records)))
            check_rate(labels[name].unusable, len(split.records), self.options.max_bad_rate, name)
        others = [text for name, found in labels.items() if name != "train" for text in found.text_N]
        if "train" in labels:
            numbers = class_numbers(labels["train"].text_N, others)
        else:
            names = sorted({*self.description.classes, *others} - {""})
            numbers = {name: number for number, name in enumerate(names)}
        check_room(self.extraction, [(split, kinds_of[name]) for name, split in splits.items()])
        unusable, usable = dict[str, list[Unusable]](), dict[str, Usable]()
        for name, split in splits.items():
            features, texts = saved(self.extraction, split, kinds_of[name]), labels[name].text_N
            unusable[name] = sorted({*features.unusable, *labels[name].unusable})
            row_N = np.delete(np.arange(len(texts)), [sample.row for sample in unusable[name]])
            class_N = torch.tensor([numbers[texts[row]] for row in row_N.tolist()], dtype=torch.int64)
            usable[name] = Usable(features.features, torch.from_numpy(row_N), class_N)
        results = self._with_training(splits["train"], usable, len(numbers)) if "train" in splits else {}
        if "zero_shot" in self.methods:
            results["zero_shot"] = self._zero_shot(usable["test"], numbers)
        self._report(results, splits, unusable, len(numbers))

    def _splits(self) -> dict[str, Split]:
        cache = str(Path(self.options.cache_dir) / "shards"), int(self.options.cache_gb * 1e9)
        names = ("test",) if self.methods == ["zero_shot"] else ("test", "train", "validation")
        places = {name: place for name in names if (place := getattr(self.description, name))}
        splits = {name: Split(name, place, open_location(place, *cache)) for name, place in places.items()}
        for split in splits.values():
            split.records.check()  # saved features and labels of folders need no file
        return splits

    def _with_training(self, split: Split, usable: dict[str, Usable], num_classes: int) -> Results:
        train, test, validation = usable["train"], usable["test"], usable.get("validation")
        if validation is None:
            is_validation_N = torch.from_numpy(is_validation(split.records, train.row_N.numpy()))
            train, validation = train.only(~is_validation_N), train.only(is_validation_N)
        num_train, num_validation, num_test = (len(part.row_N) for part in (train, validation, test))
        if not min(num_train, num_validation, num_test):
            raise UsageError(
                f"{self.description.name}: {num_train} training, {num_validation} validation and {num_test} test images"
                " are usable; each split needs some"
            )
        size = (
            f"{num_test:,} test images, {num_classes:,} classes; chosen on {num_validation:,} validation images, then"
            f" fitted on {num_train + num_validation:,}"
        )
        results: Results = {}
        for method in self.methods:
            if method != "zero_shot":
                score, settings, warning = self._measure(method, (train, validation, test), num_classes)
                how = f"{HOW[method].format(epochs=self.options.probe.epochs, **settings)}, {size}"
                results[method] = accuracy(score.num_right_N > 0, how, settings, warning)
        return results

    def _measure(self, method: Method, parts: Sequence[Usable], num_classes: int) -> Chosen:
        options, device = self.options, self.extraction.device
        if method == "linear":
            return linear_probe(Splits(num_classes, *(part.means("cpu") for part in parts)))
        if method == "knn":
            return knn(Splits(num_classes, *(part.means(device) for part in parts)), NEIGHBOURS)
        splits = Splits(num_classes, *(part.patches() for part in parts))
        total = num_steps(splits, options.probe, is_refitted=True)
        with self.extraction.progress("fitting probe", total) as advance:
            return attentive_probe(
                splits,
                options.probe,
                seed=options.seed,
                warmup_epochs=options.probe.warmup_epochs,
                is_refitted=True,
                device=torch.device(device),
                on_step=partial(advance, 1),
            )

    def _zero_shot(self, test: Usable, numbers: dict[str, int]) -> dict[str, Any]:
        """Give each image the class whose prompts have the nearest mean vector."""
        names, prompts = class_names(numbers, self.description.classes), self.description.prompts
        texts = [prompt.replace("{}", names[name]) for name in numbers for prompt in prompts]
        text_CPS = embed_texts(self.extraction, texts).unflatten(0, (len(numbers), len(prompts)))
        class_CS = F.normalize(text_CPS.mean(dim=1), dim=-1)
        image_NS = test.features["embedding"][test.row_N].to(class_CS.device)
        guess_N = torch.cat([(chunk @ class_CS.T).argmax(dim=1).cpu() for chunk in image_NS.split(CHUNK)])
        is_right_N = (guess_N == test.class_N).numpy()
        size = f"{len(is_right_N):,} test images, {len(numbers):,} classes"
        return accuracy(is_right_N, f"zero-shot with {count(len(prompts), 'prompt')}, {size}")

    def _report(
        self, results: Results, splits: Mapping[str, Split], unusable: dict[str, list[Unusable]], num_classes: int
    ) -> None:
        extraction, options, name = self.extraction, self.options, self.description.name
        model, console = extraction.model, extraction.console
        print_results(results, f"{model.name} on {name}", console)
        parts = [*(re.sub(r"[^\w.-]+", "-", text) for text in (name, model.name)), model.digest[:8], *self.methods]
        path = Path(options.to) / f"{'-'.join(parts)}.json"
        totals = {split: len(part.records) for split, part in splits.items()}
        record = {
            "set": name,
            "description": str(Path(options.data).absolute()),
            "licence": self.description.licence,
            "weights": {
                "path": str(Path(options.weights).absolute()),
                "digest": model.digest,
                "config": asdict(model.config),
            },
            "images": {
                "image_px": extraction.shape.image_px,
                "crop": extraction.shape.crop,
                **model.preprocessing.colours._asdict(),
            },
            "content": content_version(options.data),
            "classes": num_classes,
            "splits": {
                split: {
                    "images": totals[split],
                    "unusable": dict(Counter(sample.reason for sample in samples)),
                    "first_unusable": [[sample.key, sample.reason, sample.detail] for sample in samples[:MAX_LISTED]],
                }
                for split, samples in unusable.items()
            },
            "options": asdict(options),
            "computation": {
                "device": extraction.device,
                "hardware": hardware(extraction.device),
                "precision": extraction.precision,
                "versions": {name: metadata.version(name) for name in VERSIONED},
            },
            "command": sys.argv,
            "results": results,
        }
        write_json(path, record)
        notes = [
            f"{split}: {len(samples):,} of {totals[split]:,} images are left out ({counts(samples)})"
            for split, samples in unusable.items()
            if samples
        ]
        for note in (_images(extraction), *notes, f"written to {path}"):
            console.print(note, highlight=False, soft_wrap=True)


def _images(extraction: Extraction) -> str:
    shape, (mean, std) = extraction.shape, extraction.model.preprocessing.colours
    shown = f"of {shape.image_px} px, the centre {shape.crop:.4g} of the shorter side"
    numbers = (" ".join(f"{value:.4g}" for value in values) for values in (mean, std))
    return f"images: {shown}; normalised by mean {' and standard deviation '.join(numbers)}"


def linear_probe(splits: Splits, grid: Sequence[float] = L2, max_iterations: int = MAX_ITERATIONS) -> Chosen:
    """Measure scikit-learn's logistic regression on standardised mean features, those of one patch.

    The penalty is chosen on validation, the stronger of equally good ones; the regression is then fitted again on
    training and validation images together.
    """
    (train_ND, train_N), (validation_ND, validation_N), (test_ND, _) = (
        (part.feature_NID[:, 0].numpy(), part.label_NK[:, 0].numpy()) for part in splits[1:]
    )
    if len(np.unique(train_N)) < 2:
        raise UsageError("the linear probe needs training images of at least two classes")

    def fitted(feature_ND: np.ndarray, class_N: np.ndarray, l2: float) -> Pipeline:
        strength = 1 / (l2 * len(class_N))
        # L-BFGS takes several times as long, because mean features are highly correlated.
        regression = LogisticRegression(C=strength, solver="newton-cg", tol=TOLERANCE, max_iter=max_iterations)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            return make_pipeline(StandardScaler(), regression).fit(feature_ND, class_N)

    fits = {l2: fitted(train_ND, train_N, l2) for l2 in grid}
    scores = {l2: fit.score(validation_ND, validation_N) for l2, fit in fits.items()}
    best = max(scores, key=lambda l2: (scores[l2], l2))
    last = fitted(np.concatenate([train_ND, validation_ND]), np.concatenate([train_N, validation_N]), best)
    doubts = [at_edge("l2", best, grid)]
    if max(fit[-1].n_iter_.max() for fit in (*fits.values(), last)) >= max_iterations:
        doubts.append(f"a fit did not converge in {max_iterations} iterations")
    guess_N1 = torch.from_numpy(last.predict(test_ND))[:, None]
    return Chosen(scored(guess_N1, splits.test.label_NK), {"l2": best}, "; ".join(filter(None, doubts)))


def class_names(classes: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each class for prompts; a UsageError if names are given, but not of all classes."""
    classes = sorted(classes)
    if given and (missing := [name for name in classes if name not in given]):
        raise UsageError(f"classes has no name for {', '.join(missing[:NAMED])}; give one for each label, or none")
    return {name: given.get(name, name.replace("_", " ")) for name in classes}


def accuracy(
    is_right_N: np.ndarray, how: str, settings: Mapping[str, float] | None = None, warning: str = ""
) -> dict[str, Any]:
    """Return the share of test images that are right, with Wilson's interval over test images, not over seeds."""
    num_right, num = int(is_right_N.sum()), len(is_right_N)
    interval = binomtest(num_right, num).proportion_ci(method="wilson")
    result = {"value": num_right / num, "interval_95": [float(interval.low), float(interval.high)], "how": how}
    return {**result, "settings": dict(settings or {}), "warning": warning}


def print_results(results: Results, title: str, console: Console) -> None:
    table = Table("method", "accuracy", "95 % interval", "chosen on validation", title=title, box=SIMPLE)
    for method, result in results.items():
        value, low, high = (f"{100 * number:.2f}" for number in (result["value"], *result["interval_95"]))
        settings = ", ".join(f"{setting} {chosen:g}" for setting, chosen in result["settings"].items())
        table.add_row(method, f"{value} %", f"{low} to {high}", settings)
    console.print(table)
    doubts = [f"warning: {method}: {result['warning']}" for method, result in results.items() if result["warning"]]
    for line in (*(result["how"] for result in results.values()), *doubts):
        console.print(line, highlight=False, soft_wrap=True)
