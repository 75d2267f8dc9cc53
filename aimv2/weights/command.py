"""``python -m aimv2 weights``: import and export published weights."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import HELP, checked, key_values
from aimv2.tools.weights.card import run_card
from aimv2.tools.weights.contents import Weights, resampled
from aimv2.tools.weights.files import check_new, count
from aimv2.tools.weights.own import read_weights, write_weights
from aimv2.tools.weights.published import LAYOUTS, read_published, write_published
from aimv2.tools.weights.tensors import MismatchError

USAGE = """usage: python -m aimv2 weights import from=PATH to=FOLDER [layout=auto] [image_px=336]
       python -m aimv2 weights export from=FOLDER to=FOLDER [layout=transformers]

import reads published weights, a file or a folder, and writes them in our layout. export reads such a folder, or the
folder of a finished run, and writes weights that other packages load; of a run also a model card, README.md.

  layout=auto                  transformers, timm or ml-aim; auto detects it by the names of the tensors (import only)
  image_px=336                 resample learned positions for images of another size
  debug=true                   show the traceback of an error
"""


def weights_command(arguments: Sequence[str]) -> int:
    """Import or export weights and print a summary.

    If tensors differ from those expected, all their names are printed to stderr before the error is raised.

    Raises:
        UsageError: the arguments, the source or the target are invalid.
    """
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    action, *rest = arguments
    if action not in ("import", "export"):
        raise unknown("weights command", action, ("import", "export"))
    is_import = action == "import"
    given = key_values(rest, ("from", "to", "layout", "image_px") if is_import else ("from", "to", "layout"))
    if missing := [f"{key}=PATH" for key in ("from", "to") if key not in given]:
        raise UsageError(f"weights {action} needs {' and '.join(missing)}")
    source, target = Path(given["from"]), Path(given["to"])
    layouts = ("auto", *LAYOUTS) if is_import else LAYOUTS
    layout = given.get("layout", layouts[0])
    if layout not in layouts:
        raise unknown("layout", layout, layouts)
    image_px = checked("image_px", int, given["image_px"]) if "image_px" in given else None
    check_new(target)  # before reading, which may take minutes
    try:
        weights = read_published(source, layout) if is_import else read_weights(source)
    except MismatchError as error:
        for kind, texts in error.names.items():
            print(f"{kind}:", *texts, sep="\n  ", file=sys.stderr)
        raise
    if image_px is not None:
        weights = resampled(weights, image_px)
    if is_import:
        write_weights(weights, target)
    else:
        weights = write_published(weights, target, layout, _card(weights, source, layout))
    Console().print(_summary(weights, source, target, to_layout="ours" if is_import else layout))
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
