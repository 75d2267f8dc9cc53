"""The result of an evaluation: a table in the terminal and a JSON file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from aimv2.datasets.images import Bad
from aimv2.tools.evaluate.encoding.models import Model
from aimv2.tools.evaluate.methods.intervals import Estimate
from aimv2.tools.evaluate.recipes import ENCODERS, LIT, PUBLISHED_PX, Recipe

VERSIONED = ("aimv2-ablations", "torch", "numpy", "scipy", "scikit-learn", "pillow")
MAX_LISTED = 100  # bad images in the JSON file
MEAN_PER_CLASS = "_mean_per_class"  # end of the name of a result


@dataclass(frozen=True, kw_only=True)
class Result:
    """A measured share.

    Attributes:
        name: such as ``probe``, or ``probe_mean_per_class``.
        how: how it was measured.
        settings: chosen on validation.
        warning: what makes it doubtful; empty if nothing does.
        published: accuracies of the paper in percent, by model.
    """

    name: str
    estimate: Estimate
    how: str
    settings: dict[str, float] = field(default_factory=dict)
    warning: str = ""
    published: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        value, low, high = self.estimate
        shown = {"how": self.how, "settings": self.settings, "warning": self.warning}
        return {"value": value, "interval_95": [low, high], **shown, "published_percent": self.published}


def published(recipe: Recipe | None, method: str, model: Model) -> dict[str, float]:
    """Return the published accuracies that a result can be compared with: of the encoder's own size if it has one."""
    if recipe is None:
        return {}
    if method == "zero_shot":
        return {} if recipe.zero_shot is None else {LIT: recipe.zero_shot}
    if method != "probe":
        return {}
    accuracies = dict(zip(ENCODERS, recipe.published, strict=True))
    own = [name for name, width in ENCODERS.items() if width == model.config.encoder.width]
    return {name: accuracies[name] for name in own or ENCODERS}


def print_results(results: Sequence[Result], title: str, console: Console) -> None:
    """Print a row for each result."""
    has_published = any(result.published for result in results)
    table = Table("measure", "result", "95 % interval", title=title, box=SIMPLE)
    if has_published:
        table.add_column("published")
    table.add_column("chosen on validation")
    for result in results:
        value, low, high = (f"{100 * number:.2f}" for number in result.estimate)
        row = [result.name, f"{value} %", f"{low} to {high}"]
        if has_published:
            row.append(", ".join(f"{name} {accuracy:.1f}" for name, accuracy in result.published.items()))
        table.add_row(*row, ", ".join(f"{name} {chosen:g}" for name, chosen in result.settings.items()))
    console.print(table)
    for how in dict.fromkeys(result.how for result in results if not result.name.endswith(MEAN_PER_CLASS)):
        console.print(how, highlight=False, soft_wrap=True)
    for result in results:
        if result.warning:
            console.print(f"warning: {result.name}: {result.warning}", highlight=False, soft_wrap=True)
    if has_published:
        console.print(
            f"Published: paper Table 3 at {PUBLISHED_PX} px, a probe trained with augmentation, the best of its grid,"
            f" apparently by the test set; {LIT}: Table 5, with prompts that the paper does not list.",
            highlight=False,
            soft_wrap=True,
        )


def bad_summary(bad: dict[str, list[Bad]], totals: dict[str, int]) -> dict[str, Any]:
    """Return, for each split, the number of images, of unusable ones by reason, and the first of these."""
    return {
        split: {
            "images": totals[split],
            "unusable": dict(Counter(each.reason for each in found)),
            "first_unusable": [[each.key, each.reason, each.detail] for each in found[:MAX_LISTED]],
        }
        for split, found in bad.items()
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    return {name: metadata.version(name) for name in VERSIONED}
