"""``python -m aimv2 evaluate``: measure a frozen encoder on a labelled set in files."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, writable_folder, write_json
from aimv2.base.hardware import hardware, has_cuda
from aimv2.config.arguments import HELP
from aimv2.data.decode import square
from aimv2.datasets.description import LabelledDescription, read_labelled
from aimv2.datasets.images import OwnShape, Shape, counts
from aimv2.datasets.open import open_location
from aimv2.tools.evaluate.encoding.features import Extraction
from aimv2.tools.evaluate.encoding.models import Model, load_model
from aimv2.tools.evaluate.encoding.ranks import joined
from aimv2.tools.evaluate.measure import Evaluation, Outcome, chosen_methods, recipe_of
from aimv2.tools.evaluate.options import USAGE, Options, checked_options, given_values
from aimv2.tools.evaluate.recipes import print_recipes
from aimv2.tools.evaluate.report import bad_summary, print_results, versions


def evaluate_command(arguments: Sequence[str]) -> int:
    """Measure the weights on the set, print the results and write them to a file.

    Raises:
        UsageError: the arguments, the weights or the set are not as they should be.
        RunFailedError: too many images cannot be used.
    """
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    if "--recipes" in arguments:
        print_recipes(Console())
        return 0
    values = given_values(arguments)
    description = read_labelled(Path(checked_options(values).data))
    options = checked_options(_with_recipe(values, description))
    device = _device(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    with joined(device) as ranks:
        console = Console(quiet=ranks.rank > 0)
        tokenizer = Path(options.tokenizer) if options.tokenizer else None
        model = load_model(Path(options.weights), image_px=options.image_px, tokenizer=tokenizer)
        model.network.to(device)
        features_dir = writable_folder(str(Path(options.cache_dir) / "features"), "cache_dir")
        writable_folder(options.to, "to")
        extraction = Extraction(
            model=model,
            shape=_shape(options, model),
            device=device,
            precision=_precision(options, device),
            cache_dir=features_dir,
            decode=square,
            batch_size=options.batch_size,
            workers=options.workers,
            max_bad_rate=options.max_bad_rate,
            ranks=ranks,
        )
        evaluation = Evaluation(
            description=description,
            extraction=extraction,
            wanted=chosen_methods(description, model, options.methods, has_area=options.area is not None),
            options=options,
            console=console,
            open_location=partial(
                open_location,
                cache_dir=str(Path(options.cache_dir) / "shards"),
                cache_bytes=int(options.cache_gb * 1e9),
            ),
        )
        outcome = evaluation.run()
    if outcome is not None:
        _show(outcome, description, model, console)
        path = Path(options.to) / f"{_file_name(description.name)}-{_file_name(model.name)}-{model.digest[:8]}.json"
        record = _record(outcome, evaluation)
        write_json(path, record | {"results": _earlier_results(path, record) | record["results"]})
        console.print(f"written to {path}", highlight=False, soft_wrap=True)
    return 0


def _earlier_results(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the results that the file has of the same weights, images and splits, which other methods have given."""
    if not path.exists():
        return {}
    earlier, now = read_json(path), json.loads(json.dumps(record))
    is_same = all(earlier.get(key) == now[key] for key in ("set", "weights", "images", "splits"))
    return dict(earlier["results"]) if is_same else {}


def _with_recipe(values: dict[str, Any], description: LabelledDescription) -> dict[str, Any]:
    """Return the values with the recipe's for the attentive probe, where none are given."""
    recipe, given = recipe_of(description), values.get("probe", {})
    if recipe is None:
        return values
    defaults = {"batch_size": recipe.batch_size}
    if "epochs" not in given:
        defaults["warmup_epochs"] = recipe.warmup_epochs
    return values | {"probe": defaults | given}


def _shape(options: Options, model: Model) -> Shape | OwnShape:
    """Return how images are shown.

    Raises:
        UsageError: the encoder cannot read images of other shapes.
    """
    if options.area is None:
        return Shape(model.config.image_px, options.crop, options.max_pixels)
    if model.config.encoder.positions != "sincos" or model.config.patch_order != "raster":
        raise UsageError(f"area={options.area}: only encoders with sin-cos positions, in raster order, read any shape")
    return OwnShape(options.area, model.config.patch_px, options.max_pixels)


def _device(options: Options) -> str:
    if options.device == "cuda" and not has_cuda():
        raise UsageError("device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto")
    return options.device if options.device != "auto" else "cuda" if has_cuda() else "cpu"


def _precision(options: Options, device: str) -> str:
    if options.precision != "auto":
        return options.precision
    return "bfloat16" if device == "cuda" else "float32"


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


def _show(outcome: Outcome, description: LabelledDescription, model: Model, console: Console) -> None:
    print_results(outcome.results, f"{model.name} on {description.name}", console)
    for split, found in outcome.bad.items():
        if found:
            console.print(
                f"{split}: {len(found):,} of {outcome.totals[split]:,} images are left out ({counts(found)})",
                highlight=False,
                soft_wrap=True,
            )
    for sentence in outcome.warnings:
        console.print(f"warning: {sentence}", highlight=False, soft_wrap=True)


def _record(outcome: Outcome, evaluation: Evaluation) -> dict[str, Any]:
    extraction, description, options = evaluation.extraction, evaluation.description, evaluation.options
    model = extraction.model
    return {
        "set": description.name,
        "description": str(Path(options.data).absolute()),
        "recipe": description.recipe,
        "licence": description.licence,
        "weights": {
            "path": str(Path(options.weights).absolute()),
            "digest": model.digest,
            "config": asdict(model.config),
        },
        "images": {
            name: value for name, value in extraction.shape._asdict().items() if name in ("image_px", "crop", "area")
        },
        "classes": outcome.num_classes,
        "splits": bad_summary(outcome.bad, outcome.totals),
        "results": {result.name: result.to_json() for result in outcome.results},
        "warnings": outcome.warnings,
        "options": asdict(options),
        "computation": {
            "device": extraction.device,
            "hardware": hardware(extraction.device),
            "precision": extraction.precision,
            "versions": versions(),
        },
        "command": sys.argv,
    }
