"""``python -m aimv2 weights``: import and export published weights."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aimv2.base.errors import count, unknown
from aimv2.base.files import check_new
from aimv2.config.arguments import HELP
from aimv2.config.data_config import CHECKED
from aimv2.config.options import read_options, usage
from aimv2.tools.weights.card import run_card
from aimv2.tools.weights.contents import Weights, resampled
from aimv2.tools.weights.own import read_weights, write_weights
from aimv2.tools.weights.published import LayoutName, read_published, write_published
from aimv2.tools.weights.tensors import MismatchError


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ImportOptions:
    """Read published weights, and write them in our layout."""

    source: str = Field(alias="from", description="published weights, a file or a folder", examples=["PATH"])
    to: str = Field(description="a new folder", examples=["FOLDER"])
    layout: Literal["auto", "transformers", "timm", "ml-aim"] = Field(
        default="auto", description="transformers, timm or ml-aim; auto detects it by the names of the tensors"
    )
    image_px: int | None = Field(
        default=None, description="resample learned positions for images of another size", examples=[336]
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ExportOptions:
    """Write weights that other packages load; of a run also a model card, README.md."""

    source: str = Field(
        alias="from", description="a folder of: weights import, or of a finished run", examples=["PATH"]
    )
    to: str = Field(description="a new folder", examples=["FOLDER"])
    layout: LayoutName = Field(default="transformers", description="transformers, timm or ml-aim")


ACTIONS: dict[str, type[ImportOptions | ExportOptions]] = {"import": ImportOptions, "export": ExportOptions}


def weights_command(arguments: Sequence[str]) -> int:
    """Import or export weights and print a summary.

    If tensors differ from those expected, all their names are printed to stderr before the error is raised.

    Raises:
        UsageError: the arguments, the source or the target are invalid.
    """
    action, *rest = arguments or ["--help"]
    if HELP & {action, *rest}:
        named = {action: ACTIONS[action]} if action in ACTIONS else ACTIONS
        typed = "python -m aimv2 weights {} from=PATH to=FOLDER [key=value ...]"
        print(*(usage(typed.format(name), kind.__doc__ or "", kind) for name, kind in named.items()), sep="\n", end="")
        return 0 if arguments else 2
    if action not in ACTIONS:
        raise unknown("weights command", action, ACTIONS)
    options = read_options(ACTIONS[action], rest, f"weights {action} needs")
    source, target = Path(options.source), Path(options.to)
    check_new(target)  # before reading, which may take minutes
    try:
        is_export = isinstance(options, ExportOptions)
        weights = read_weights(source) if is_export else read_published(source, options.layout)
    except MismatchError as error:
        for kind, texts in error.names.items():
            print(f"{kind}:", *texts, sep="\n  ", file=sys.stderr)
        raise
    if isinstance(options, ExportOptions):
        weights = write_published(weights, target, options.layout, _card(weights, source, options.layout))
    else:
        weights = weights if options.image_px is None else resampled(weights, options.image_px)
        write_weights(weights, target)
    written = options.layout if isinstance(options, ExportOptions) else "ours"
    Console().print(_summary(weights, source, target, to_layout=written))
    return 0


def _card(weights: Weights, source: Path, layout: str) -> Callable[[Weights], str] | None:
    """Return the card of a run; published weights have the card of their publisher."""
    if weights.config.source.layout != "run":
        return None

    def card(written: Weights) -> str:
        has_text_tower = written.config.text_tower is not None
        return run_card(source.resolve(), layout, has_text_tower=has_text_tower, omitted=written.omitted)

    return card


def _summary(weights: Weights, source: Path, target: Path, to_layout: str) -> Table:
    config, encoder, tower = weights.config, weights.config.encoder, weights.config.text_tower
    origin = config.source
    heads = count(encoder.num_heads, "head")
    rows = {
        "read": str(source),
        "origin": f"{origin.layout}: {origin.file}, {' and '.join(origin.dtypes)}",
        "encoder": f"width {encoder.width}, depth {encoder.depth}, {heads}, FFN {encoder.ffn_hidden}",
        "images": f"{config.image_px} px, patches of {config.patch_px} px, {encoder.positions} positions",
    }
    if origin.resampled_from_px is not None:
        before, after = (px // config.patch_px for px in (origin.resampled_from_px, config.image_px))
        rows["resampled"] = f"positions, from {before} x {before} to {after} x {after}, bicubic with antialiasing"
    if tower is not None:
        rows["text tower"] = (
            f"width {tower.width}, depth {tower.depth}, {count(tower.num_heads, 'head')}, {tower.vocab_size} tokens,"
            f" texts of {tower.max_text_tokens}, shares {tower.embed_dim} dimensions with images"
        )
    sizes: Counter[str] = Counter()
    for name, value in weights.tensors.items():
        sizes[name.partition(".")[0]] += value.numel()
    rows["parameters"] = ", ".join(f"{part} {size / 1e6:,.1f} M" for part, size in sizes.items() if size > 1)
    if weights.omitted:
        rows["omitted"] = weights.omitted
    rows["wrote"] = f"{target} ({to_layout}, float32)"
    table = Table.grid(padding=(0, 2))
    for name, text in rows.items():
        table.add_row(Text(name, style="bold"), Text(text, overflow="fold"))
    return table
