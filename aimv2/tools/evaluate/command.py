"""``python -m aimv2 evaluate``: measure a frozen encoder on a labelled set in files."""

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, writable_folder, write_json
from aimv2.base.hardware import hardware, has_cuda
from aimv2.config.arguments import HELP
from aimv2.config.options import read_options
from aimv2.datasets.description import read_labelled
from aimv2.datasets.labelled import OwnShape, Shape, counts
from aimv2.datasets.plugin import set_version
from aimv2.tools.evaluate.features import Extraction
from aimv2.tools.evaluate.measure import Evaluation, Outcome, chosen_methods
from aimv2.tools.evaluate.models import Model, load_model
from aimv2.tools.evaluate.options import EvaluateOptions, evaluate_usage
from aimv2.tools.evaluate.results import print_results
from aimv2.tools.weights.preprocessing import FILE as PREPROCESSING

VERSIONED = ("aimv2-ablations", "torch", "numpy", "scipy", "scikit-learn", "pillow")
MAX_LISTED = 100  # unusable images in the JSON file


def evaluate_command(arguments: Sequence[str]) -> int:
    """Measure the weights on the set, print the results and write them to a file.

    Raises:
        UsageError: the arguments, the weights or the set are not as they should be.
        RunFailedError: too many images cannot be used.
    """
    if not arguments or HELP & set(arguments):
        print(evaluate_usage(), end="")
        return 0 if arguments else 2
    options = read_options(EvaluateOptions, arguments, needs="evaluate needs")
    description = read_labelled(Path(options.data))
    device = _device(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    tokenizer = Path(options.tokenizer) if options.tokenizer else None
    model = load_model(Path(options.weights), image_px=options.image_px, tokenizer=tokenizer)
    model.network.to(device)
    writable_folder(options.to, "to")
    extraction = Extraction(
        model=model,
        shape=_shape(options, model),
        device=device,
        precision=_precision(options, device),
        cache_dir=writable_folder(str(Path(options.cache_dir) / "features"), "cache_dir"),
        console=Console(),
        batch_size=options.batch_size,
        workers=options.workers,
        max_bad_rate=options.max_bad_rate,
    )
    methods = chosen_methods(description, model, options.methods, has_area=options.area is not None)
    evaluation = Evaluation(description=description, extraction=extraction, methods=methods, options=options)
    _report(evaluation.run(), evaluation)
    return 0


def _shape(options: EvaluateOptions, model: Model) -> Shape | OwnShape:
    """Return how images are shown.

    Raises:
        UsageError: the encoder cannot read images of other shapes.
    """
    if options.area is None:
        crop = model.preprocessing.crop if options.crop is None else options.crop
        if crop is None:
            raise UsageError(
                f"{PREPROCESSING} of {options.weights} shows images in another way than resized by the shorter side,"
                " bicubic, and cropped to a square; type crop=, such as crop=0.875, to show them so"
            )
        return Shape(model.config.image_px, crop, options.max_pixels)
    if model.config.encoder.positions != "sincos" or model.config.patch_order != "raster":
        raise UsageError(f"area={options.area}: only encoders with sin-cos positions, in raster order, read any shape")
    return OwnShape(options.area, model.config.patch_px, options.max_pixels)


def _device(options: EvaluateOptions) -> str:
    if options.device == "cuda" and not has_cuda():
        raise UsageError("device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto")
    return options.device if options.device != "auto" else "cuda" if has_cuda() else "cpu"


def _precision(options: EvaluateOptions, device: str) -> str:
    if options.precision != "auto":
        return options.precision
    return "bfloat16" if device == "cuda" else "float32"


def _report(outcome: Outcome, evaluation: Evaluation) -> None:
    """Print the results, and write them beside those of other methods on the same weights, images and splits."""
    extraction, name = evaluation.extraction, evaluation.description.name
    model, console = extraction.model, extraction.console
    print_results(outcome.results, f"{model.name} on {name}", console)
    console.print(_images(extraction), highlight=False, soft_wrap=True)
    notes = [
        f"{split}: {len(found):,} of {outcome.totals[split]:,} images are left out ({counts(found)})"
        for split, found in outcome.unusable.items()
        if found
    ]
    file_name = "-".join([*(re.sub(r"[^\w.-]+", "-", text) for text in (name, model.name)), model.digest[:8]])
    path = Path(evaluation.options.to) / f"{file_name}.json"
    record = _record(outcome, evaluation)
    write_json(path, record | {"results": _earlier_results(path, record) | record["results"]})
    for note in (*notes, f"written to {path}"):
        console.print(note, highlight=False, soft_wrap=True)


def _images(extraction: Extraction) -> str:
    """Return how images were shown, in one sentence."""
    shape, (mean, std) = extraction.shape, extraction.model.preprocessing.colours
    if isinstance(shape, Shape):
        shown = f"of {shape.image_px} px, the centre {shape.crop:.4g} of the shorter side"
    else:
        shown = f"whole, in at most {shape.area} patches"
    numbers = (" ".join(f"{value:.4g}" for value in values) for values in (mean, std))
    return f"images: {shown}; normalised by mean {' and standard deviation '.join(numbers)}"


def _earlier_results(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    if not path.exists():
        return {}
    earlier, now = read_json(path), json.loads(json.dumps(record))
    is_same = all(earlier.get(key) == now[key] for key in ("set", "content", "weights", "images", "splits"))
    return dict(earlier["results"]) if is_same else {}


def _record(outcome: Outcome, evaluation: Evaluation) -> dict[str, Any]:
    extraction, description, options = evaluation.extraction, evaluation.description, evaluation.options
    shape, model = extraction.shape._asdict(), extraction.model
    return {
        "set": description.name,
        "description": str(Path(options.data).absolute()),
        "licence": description.licence,
        "weights": {
            "path": str(Path(options.weights).absolute()),
            "digest": model.digest,
            "config": asdict(model.config),
        },
        "images": {name: value for name, value in shape.items() if name in ("image_px", "crop", "area")}
        | model.preprocessing.colours._asdict(),
        "content": set_version(options.data),
        "classes": outcome.num_classes,
        "splits": {
            split: {
                "images": outcome.totals[split],
                "unusable": dict(Counter(each.reason for each in found)),
                "first_unusable": [[each.key, each.reason, each.detail] for each in found[:MAX_LISTED]],
            }
            for split, found in outcome.unusable.items()
        },
        "results": {result.name: result.to_json() for result in outcome.results},
        "options": asdict(options),
        "computation": {
            "device": extraction.device,
            "hardware": hardware(extraction.device),
            "precision": extraction.precision,
            "versions": {name: metadata.version(name) for name in VERSIONED},
        },
        "command": sys.argv,
    }
