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
ONE_RUN = (
    "One run with one seed (n = 1), so there is no interval: another seed gives other values, and a difference from"
    " another model may be noise."
)


NO_VERDICTS = "None: an export knows one run, and not its study."


def run_card(folder: Path, layout: str, verdicts: Sequence[str] = (NO_VERDICTS,), **facts: Any) -> str:
    """Return the card of a finished run; ``omitted``, ``has_text_tower`` and ``licence`` are as in ``render``.

    Args:
        verdicts: those of its study, a line of Markdown each.

    Raises:
        UsageError: the run's files cannot be read.
    """
    run = RunFolder(folder.parent, folder.name)
    result = run.result()
    config = RunConfig.from_dict(read_json(folder / "config.json"))
    return render(
        config,
        layout,
        name=run.name,
        seeds=[config.seed],
        sources=credits_of([config])["sources"],
        note=ONE_RUN,
        metrics=[
            [name, f"{metric['value']:.4g}", metric["unit"], _described(metric)]
            for name, metric in result["metrics"].items()
            if metric["value"] is not None
        ],
        record=record_of(run, config),
        verdicts=verdicts,
        **facts,
    )


def record_of(run: RunFolder, config: RunConfig) -> list[str]:
    """Return code, versions, hardware and cost of a finished run, a line each."""
    result, path = run.result(), run.file("manifest.json")
    manifest = read_json(path) if path.exists() else {}
    versions = manifest.get("versions", {})
    others = ", ".join(f"{escape(name)} {escape(str(text))}" for name, text in versions.items() if name != "torch")
    attempts = list(billed(run.path, config))
    measured, billed_time = map(duration, (result["seconds"], sum(attempt.seconds for attempt in attempts)))
    flops = f"{result['train_flops']:.3g} training FLOPs, " if "train_flops" in result else ""
    return [
        f"Run `{run.name}`, code {_known(manifest, 'code')} (commit {_known(manifest, 'commit')}).",
        f"PyTorch {_known(versions, 'torch')} on {_known(manifest, 'hardware')}.",
        f"Python {_known(manifest, 'python')}{f', {others}' if others else ''}.",
        f"Cost: {flops}{measured}; {count(len(attempts), 'attempt')}, {billed_time} in all.",
    ]


def render(
    config: RunConfig,
    layout: str,
    *,
    omitted: str = "",
    has_text_tower: bool = False,
    licence: str = "",
    **values: Any,
) -> str:
    """Return a card as Markdown with its metadata in front; ``card.md.j2`` has its text.

    Args:
        layout: of the weights, ``transformers`` or ``ml-aim``.
        omitted: parts of the run's network that the weights lack.
        has_text_tower: True for a pair of encoders.
        licence: of the weights, an SPDX identifier; empty is left open.
        values: ``name`` of the model; ``seeds`` of the runs that the values rest on; ``sources`` of the data, each with
            its licence; ``note`` on the metrics; ``metrics``, a row each; ``record``, where the weights come from;
            ``verdicts``, what a study concludes about the model.
    """
    environment = Environment(
        loader=PackageLoader("aimv2.tools.weights", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["escape_markdown"] = escape
    metadata = {
        **licence_metadata(licence, f"{FILE}#training-data"),
        **({} if layout == "ml-aim" else {"library_name": layout}),
        "pipeline_tag": "image-feature-extraction",
        "tags": list(dict.fromkeys(["aimv2", "vision-encoder", "ablation", config.objective.name])),
        "datasets": [source_name(source) for source in config.data.sources],
    }
    values |= {"config": config, "layout": layout, "omitted": omitted, "mean": IMAGENET.mean, "std": IMAGENET.std}
    values["model"] = "Aimv2Model" if has_text_tower else "Aimv2VisionModel"
    metadata_text = yaml.safe_dump(metadata, sort_keys=False)
    return environment.get_template("card.md.j2").render(metadata=metadata_text, **values)


def licence_metadata(licence: str, link: str) -> dict[str, str]:
    """Return the licence as model hubs read it, or a link to those of the data if it is left open."""
    if licence:
        return {"license": licence.lower()}
    return {"license": "other", "license_name": "not-chosen-yet", "license_link": link}


def _described(metric: Mapping[str, Any]) -> str:
    return "; ".join(escape(text) for text in (metric["evaluation"], metric["warning"]) if text)


def _known(values: Mapping[str, Any], key: str) -> str:
    return escape(str(values.get(key) or "not recorded"))
