"""Model cards of exported weights: a README.md with the metadata that model hubs read.

Source: the format of huggingface.co/docs/hub/model-cards; the sections follow Mitchell et al. 2019 (arXiv 1810.03993).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aimv2.base.files import read_json
from aimv2.config.data_config import source_name
from aimv2.config.run_config import RunConfig
from aimv2.config.serialization import from_dict
from aimv2.data.sources.credits import credits_of
from aimv2.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from aimv2.runs.record import RunFolder

FILE = "README.md"
USES = {
    "transformers": 'from transformers import {model}\n\nmodel = {model}.from_pretrained("FOLDER")',
    "timm": 'import timm\n\nmodel = timm.create_model("local-dir:FOLDER")',
}
MADE_BY_CODE = "Pictures are {kind}, rendered by code, so nothing is known about photographs."
ONE_RUN = (
    "One run with one seed (n = 1), so there is no interval: another seed gives other values, and a difference from"
    " another model may be noise."
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says besides the run's config.

    Attributes:
        name: of the model.
        layout: of the weights, one of ``published.LAYOUTS``.
        seeds: of the runs that the values rest on.
        sources: of the data, each with its licence.
        evaluation: a note on the values, and a row per metric: name, value, unit, how it was measured.
        record: where the weights come from: run, code, hardware; Markdown.
        verdicts: what a study concludes about the model; a line each, Markdown.
        has_text_tower: True for a pair of encoders.
        omitted: parts of the run's network that the weights lack.
    """

    name: str
    layout: str
    seeds: Sequence[int]
    sources: Sequence[str]
    evaluation: tuple[str, Sequence[Sequence[str]]]
    record: Sequence[str]
    verdicts: Sequence[str]
    has_text_tower: bool = False
    omitted: str = ""


def run_card(folder: Path, layout: str, *, has_text_tower: bool = False, omitted: str = "") -> str:
    """Return the card of a finished run; the arguments are as in ``Card``.

    Raises:
        UsageError: the run's files cannot be read.
    """
    run = RunFolder(folder.parent, folder.name)
    result, path = run.result(), run.file("manifest.json")
    manifest = read_json(path) if path.exists() else {}
    rows = [
        [name, f"{metric['value']:.4g}", metric["unit"], _described(metric)]
        for name, metric in result["metrics"].items()
        if metric["value"] is not None
    ]
    record = [
        f"Run `{run.name}`, code {_known(manifest, 'code')} (commit {_known(manifest, 'commit')}).",
        f"PyTorch {_known(manifest.get('versions', {}), 'torch')} on {_known(manifest, 'hardware')}.",
    ]
    verdicts = [
        "None: an export knows one run. A study's card has intervals over seeds and the verdicts on its claims."
    ]
    config = from_dict(read_json(folder / "config.json"))
    card = Card(
        name=run.name,
        layout=layout,
        seeds=[config.seed],
        sources=credits_of([config])["sources"],
        evaluation=(ONE_RUN, rows),
        record=record,
        verdicts=verdicts,
        has_text_tower=has_text_tower,
        omitted=omitted,
    )
    return render(card, config)


def render(card: Card, config: RunConfig) -> str:
    """Return a card as Markdown with its metadata in front."""
    note, rows = card.evaluation
    sections = {
        f"# {escape(card.name)}": [_summary(config)],
        "## Model": [*_bullets(_model(config, card.omitted)), *_usage(card)],
        "## Training data": [*_bullets([escape(line) for line in card.sources]), _pairs(card, config)],
        "## Evaluation": [note, _table(["metric", "value", "unit", "measured on"], rows)],
        "## Limits": _bullets(_limits(config)),
        "## Verdicts of the study": _bullets(card.verdicts),
        "## Record": _bullets(card.record),
    }
    body = "\n\n".join("\n\n".join([title, *filter(None, blocks)]) for title, blocks in sections.items())
    return f"---\n{yaml.safe_dump(_metadata(card, config), sort_keys=False)}---\n\n{body}\n"


def escape(text: str) -> str:
    """Return text that is no Markdown and breaks no table, as ``analysis.document.model.escape``.

    Analysis escapes without torch, which this package imports.
    """
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text).replace("\n", " ")


def _metadata(card: Card, config: RunConfig) -> dict[str, Any]:
    library = {} if card.layout == "ml-aim" else {"library_name": card.layout}
    return {
        # Who publishes the weights chooses their licence, with regard to those of the data below.
        "license": "other",
        "license_name": "not-chosen-yet",
        "license_link": f"{FILE}#training-data",
        **library,
        "pipeline_tag": "image-feature-extraction",
        "tags": list(dict.fromkeys(["aimv2", "vision-encoder", "ablation", config.objective.name])),
        "datasets": [source_name(source) for source in config.data.sources],
    }


def _summary(config: RunConfig) -> str:
    return (
        f"A vision encoder of the AIMv2 kind (arXiv 2411.14402), trained from scratch with the objective"
        f" {config.objective.name} at scale {config.scale}, for ablation studies. It is not one of Apple's models."
    )


def _model(config: RunConfig, omitted: str) -> list[str]:
    model, encoder = config.model, config.model.encoder
    lines = [
        f"Encoder: width {encoder.width}, depth {encoder.depth}, {encoder.num_heads} heads, {encoder.norm} norm,"
        f" {encoder.ffn} FFN, {encoder.positions} positions; attention in training: {encoder.attention}; in use: full.",
        f"Images: {model.image_px} px in patches of {model.patch_px} px, normalised with mean {list(IMAGENET_MEAN)} and"
        f" standard deviation {list(IMAGENET_STD)}.",
    ]
    return [*lines, f"Omitted: {escape(omitted)}."] if omitted else lines


def _usage(card: Card) -> list[str]:
    model = "Aimv2Model" if card.has_text_tower else "Aimv2VisionModel"
    return [f"```python\n{USES[card.layout].format(model=model)}\n```"] if card.layout in USES else []


def _pairs(card: Card, config: RunConfig) -> str:
    budget, data = config.budget, config.data
    seeds = f"seed{'s' * (len(card.seeds) > 1)} {', '.join(map(str, card.seeds))}"
    text = f"{budget.samples:,} samples in batches of {budget.batch_size}, {seeds}."
    return text if data.captions == "own" else f"{text} Captions were shuffled: this is a control, not a useful model."


def _limits(config: RunConfig) -> list[str]:
    lines = [f"All numbers hold at scale {config.scale}, on these data; other scales may differ."]
    if config.data.kind != "files":
        lines.append(MADE_BY_CODE.format(kind={"scenes": "scenes of icons", "glyphs": "icons"}[config.data.kind]))
    return [*lines, "Meant for research on pre-training, not for use in products."]


def _described(metric: Mapping[str, Any]) -> str:
    return "; ".join(escape(text) for text in (metric["evaluation"], metric["warning"]) if text)


def _known(values: Mapping[str, Any], key: str) -> str:
    return escape(str(values.get(key) or "not recorded"))


def _bullets(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {line}" for line in lines)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows])
