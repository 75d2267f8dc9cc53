"""``python -m aimv2 weights``: import and export published weights."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from aimv2.base.errors import unknown
from aimv2.base.files import check_new
from aimv2.config.arguments import HELP, read_options
from aimv2.tools.options import ACTIONS, ExportOptions, weights_usage
from aimv2.tools.weights.card import FILE as README
from aimv2.tools.weights.card import run_card
from aimv2.tools.weights.folders import (
    AS_TRAINED,
    PREPROCESSING,
    expressible,
    preprocessing_of,
    read_published,
    read_weights,
    write_published,
    write_weights,
)
from aimv2.tools.weights.layouts import Weights


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
    """Write weights that other packages load, those of a run with a model card and its preprocessing.

    Args:
        source: a folder of ``weights import``, or of a finished run.
        card: returns the card of a run from the ``omitted`` and ``has_text_tower`` of its weights, which ``run_card``
            describes; None is that of the run alone.
    """
    check_new(target)  # before reading, which may take minutes
    weights = expressible(read_weights(source), layout)
    if weights.config.source.layout == "run":
        card = card or partial(run_card, source.resolve(), layout)
        text = card(omitted=weights.omitted, has_text_tower=weights.config.text_tower is not None)
        texts = {README: text, PREPROCESSING: AS_TRAINED.to_json(weights.config.image_px)}
    else:  # published weights have the card of their publisher
        texts = preprocessing_of(source)
    write_published(weights, target, layout, texts)
    return weights


def _summary(weights: Weights, source: Path) -> list[str]:
    config, encoder, origin = weights.config, weights.config.encoder, weights.config.source
    millions = sum(value.numel() for value in weights.tensors.values()) / 1e6
    lines = [
        f"read {source} ({origin.layout}: {origin.file}, {' and '.join(origin.dtypes)})",
        f"{'an encoder' if config.text_tower is None else 'a pair of encoders'}, {millions:,.1f} M parameters: width"
        f" {encoder.width}, depth {encoder.depth}, images of {config.image_px} px, {encoder.positions} positions",
    ]
    return [*lines, f"omitted: {weights.omitted}"] if weights.omitted else lines
