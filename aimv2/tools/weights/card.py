"""Model cards of exported weights: a README.md with the metadata that model hubs read.

Source: the format of huggingface.co/docs/hub/model-cards; the sections follow Mitchell et al. 2019 (arXiv 1810.03993).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from aimv2.base.errors import count, escape
from aimv2.base.files import read_json
from aimv2.config.data_config import source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.provenance import credits_of
from aimv2.data.transforms import IMAGENET
from aimv2.run.price import duration
from aimv2.runs.record import RunFolder, billed

FILE = "README.md"


def run_card(
    folder: Path,
    layout: str,
    *,
    verdicts: Sequence[str] = (),
    omitted: str = "",
    has_text_tower: bool = False,
    licence: str = "",
) -> str:
    """Return the card of a finished run as Markdown with its metadata in front; ``card.md.j2`` has its text.

    Args:
        layout: of the weights, ``transformers`` or ``ml-aim``.
        verdicts: those of its study, a line of Markdown each.
        omitted: parts of the run's network that the weights lack.
        has_text_tower: True for a pair of encoders.
        licence: of the weights, an SPDX identifier; empty is left open.
    """
    run = RunFolder(folder.parent, folder.name)
    result, manifest_file = run.result(), run.file("manifest.json")
    config = RunConfig.from_dict(read_json(folder / "config.json"))
    attempts = list(billed(run.path, config))
    metadata = {
        **licence_metadata(licence, f"{FILE}#training-data"),
        **({} if layout == "ml-aim" else {"library_name": layout}),
        "pipeline_tag": "image-feature-extraction",
        "tags": list(dict.fromkeys(["aimv2", "vision-encoder", "ablation", config.objective.name])),
        "datasets": [source_name(source) for source in config.data.sources],
    }
    environment = Environment(
        loader=PackageLoader("aimv2.tools.weights", "."),
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
        model="Aimv2Model" if has_text_tower else "Aimv2VisionModel",
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
