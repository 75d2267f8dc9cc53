"""``python -m aimv2 weights``: import and export published weights, those of a run with a model card.

A card is a README.md with the metadata that model hubs read. Its format is that of huggingface.co/docs/hub/model-cards;
the sections follow Mitchell et al. 2019 (arXiv 1810.03993).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from aimv2.base.errors import count, escape, unknown
from aimv2.base.files import check_new, read_json
from aimv2.config.arguments import HELP, read_options
from aimv2.config.data_config import source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.provenance import credits_of
from aimv2.data.transforms import IMAGENET
from aimv2.run.price import duration
from aimv2.runs.record import RunFolder, billed
from aimv2.tools.options import ACTIONS, ExportOptions, weights_usage
from aimv2.tools.weights import (
    AS_TRAINED,
    PREPROCESSING,
    preprocessing_of,
    read_published,
    read_weights,
    require_expressible,
    write_published,
    write_weights,
)
from aimv2.tools.weights_layouts import Weights

README = "README.md"


def weights_command(arguments: Sequence[str]) -> int:
    action, *rest = arguments or ["--help"]
    if HELP & {action, *rest}:
        print(weights_usage(arguments), end="")
        return 0 if arguments else 2
    if action not in ACTIONS:
        raise unknown("weights command", action, ACTIONS)
    options = read_options(ACTIONS[action], rest, f"weights {action} needs")
    source, target = Path(options.source), Path(options.to)
    if isinstance(options, ExportOptions):
        weights = export(source, target, options.layout)
    else:
        check_new(target)  # before reading, which may take minutes
        weights = read_published(source)
        write_weights(weights, target, preprocessing_of(source))
    print("\n".join(_summary(weights, source)), f"wrote {target}", sep="\n")
    return 0


def export(source: Path, target: Path, layout: str, card: Callable[..., str] | None = None) -> Weights:
    """Write weights that other packages load, those of a run with its preprocessing and a model card.

    ``card`` returns the text of that from the ``omitted`` of the weights; None is the card of the run alone.
    """
    check_new(target)  # before reading, which may take minutes
    weights = read_weights(source)
    require_expressible(weights, layout)
    if weights.config.source.layout == "run":
        card = card or partial(run_card, source.resolve(), layout)
        preprocessing = AS_TRAINED.to_json(weights.config.image_px)
        texts = {README: card(omitted=weights.omitted), PREPROCESSING: preprocessing}
    else:  # published weights have the card of their publisher
        texts = preprocessing_of(source)
    write_published(weights, target, layout, texts)
    return weights


def _summary(weights: Weights, source: Path) -> list[str]:
    config, encoder, origin = weights.config, weights.config.encoder, weights.config.source
    millions = sum(value.numel() for value in weights.tensors.values()) / 1e6
    lines = [
        f"read {source} ({origin.layout}: {origin.file}, {' and '.join(origin.dtypes)})",
        f"an encoder, {millions:,.1f} M parameters: width {encoder.width}, depth {encoder.depth}, images of"
        f" {config.image_px} px, {encoder.positions} positions",
    ]
    return [*lines, f"omitted: {weights.omitted}"] if weights.omitted else lines


def run_card(folder: Path, layout: str, *, verdicts: Sequence[str] = (), omitted: str = "", licence: str = "") -> str:
    """Return the card of a finished run as Markdown with its metadata in front; ``card.md.j2`` has its text.

    ``verdicts`` are those of its study, a line of Markdown each, ``omitted`` the parts that the weights lack, and
    ``licence`` is an SPDX identifier; empty is left open.
    """
    run = RunFolder(folder.parent, folder.name)
    result, manifest_file = run.result(), run.file("manifest.json")
    config = RunConfig.from_dict(read_json(folder / "config.json"))
    attempts = list(billed(run.path, config))
    metadata = {
        **licence_metadata(licence, f"{README}#training-data"),
        **({} if layout == "ml-aim" else {"library_name": layout}),
        "pipeline_tag": "image-feature-extraction",
        "tags": list(dict.fromkeys(["aimv2", "vision-encoder", "ablation", config.objective.name])),
        "datasets": [source_name(source) for source in config.data.sources],
    }
    environment = Environment(
        loader=PackageLoader("aimv2.tools", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["escape_markdown"] = escape
    return environment.get_template("card.md.j2").render(
        metadata=yaml.safe_dump(metadata, sort_keys=False),
        config=config,
        layout=layout,
        name=run.name,
        omitted=omitted,
        mean=IMAGENET.mean,
        std=IMAGENET.std,
        sources=credits_of([config])["sources"],
        metrics=[
            [name, f"{metric['value']:.4g}", metric["unit"], _described(metric)]
            for name, metric in result["metrics"].items()
            if metric["value"] is not None
        ],
        verdicts=verdicts,
        manifest=read_json(manifest_file) if manifest_file.exists() else {},
        flops=result.get("train_flops"),
        measured=duration(result["seconds"]),
        attempts=count(len(attempts), "attempt"),
        billed=duration(sum(attempt.seconds for attempt in attempts)),
    )


def licence_metadata(licence: str, link: str) -> dict[str, str]:
    """Return the licence as model hubs read it, or a link to those of the data if it is left open."""
    if licence:
        return {"license": licence.lower()}
    return {"license": "other", "license_name": "not-chosen-yet", "license_link": link}


def _described(metric: Mapping[str, Any]) -> str:
    return "; ".join(escape(text) for text in (metric["evaluation"], metric["warning"]) if text)
