"""``python -m aimv2 weights``: import and export published weights."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from aimv2.base.errors import count, unknown
from aimv2.base.files import check_new, read_object
from aimv2.config.arguments import HELP
from aimv2.config.options import read_options
from aimv2.tools.weights.card import FILE as README
from aimv2.tools.weights.card import run_card
from aimv2.tools.weights.contents import Weights, resampled
from aimv2.tools.weights.own import read_weights, write_weights
from aimv2.tools.weights.preprocessing import AS_TRAINED, read_preprocessing
from aimv2.tools.weights.preprocessing import FILE as PREPROCESSING
from aimv2.tools.weights.published import expressible, read_published, write_published
from aimv2.tools.weights_options import ACTIONS, ExportOptions, weights_usage


def weights_command(arguments: Sequence[str]) -> int:
    """Import or export weights and print a summary.

    Raises:
        UsageError: the arguments, the source or the target are invalid.
    """
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
        weights = read_published(source, options.layout)
        weights = weights if options.image_px is None else resampled(weights, options.image_px)
        write_weights(weights, target, _kept(source, options.image_px))
    print("\n".join(_summary(weights, source)), f"wrote {target}", sep="\n")
    return 0


def export(source: Path, target: Path, layout: str, card: Callable[..., str] | None = None) -> Weights:
    """Write weights that other packages load, those of a run with a model card and its preprocessing.

    Args:
        source: a folder of ``weights import``, or of a finished run.
        layout: one of ``published.LAYOUTS``.
        card: returns the card of a run from what ``card.render`` knows of its weights, ``omitted`` and
            ``has_text_tower``; None is that of the run alone.

    Returns:
        The weights that were written.

    Raises:
        UsageError: the source is neither, the layout has no such encoder, or the target is not an empty folder.
    """
    check_new(target)  # before reading, which may take minutes
    weights = expressible(read_weights(source), layout)
    if weights.config.source.layout == "run":
        card = card or partial(run_card, source.resolve(), layout)
        text = card(omitted=weights.omitted, has_text_tower=weights.config.text_tower is not None)
        texts = {README: text, PREPROCESSING: AS_TRAINED.to_json(weights.config.image_px)}
    else:  # published weights have the card of their publisher
        texts = _kept(source)
    write_published(weights, target, layout, texts)
    return weights


def _kept(source: Path, image_px: int | None = None) -> dict[str, str]:
    """Return the publisher's preprocessing, for images of another size if one is given; none if it has no such form."""
    file = (source if source.is_dir() else source.parent) / PREPROCESSING
    if not file.is_file():
        return {}
    if image_px is None:
        return {PREPROCESSING: json.dumps(read_object(file), indent=2) + "\n"}
    found = read_preprocessing(source)
    return {PREPROCESSING: found.to_json(image_px)} if found and found.crop else {}


def _summary(weights: Weights, source: Path) -> list[str]:
    """Return what was read, a line each."""
    config, encoder, origin = weights.config, weights.config.encoder, weights.config.source
    heads = count(encoder.num_heads, "head")
    lines = [
        f"read {source} ({origin.layout}: {origin.file}, {' and '.join(origin.dtypes)})",
        f"encoder: width {encoder.width}, depth {encoder.depth}, {heads}, FFN {encoder.ffn_hidden},"
        f" {sum(value.numel() for value in weights.tensors.values()) / 1e6:,.1f} M parameters",
        f"images: {config.image_px} px, patches of {config.patch_px} px, {encoder.positions} positions",
    ]
    if tower := config.text_tower:
        lines.append(
            f"text tower: width {tower.width}, depth {tower.depth}, {count(tower.num_heads, 'head')},"
            f" {tower.vocab_size} tokens, texts of {tower.max_text_tokens}, embeddings of {tower.embed_dim}"
        )
    if origin.resampled_from_px is not None:
        before, after = (px // config.patch_px for px in (origin.resampled_from_px, config.image_px))
        lines.append(f"resampled: positions, from {before} x {before} to {after} x {after}, bicubic with antialiasing")
    return [*lines, f"omitted: {weights.omitted}"] if weights.omitted else lines
