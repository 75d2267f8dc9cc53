"""The labelled sets of the paper's Table 3: their origin, and what was published. Nothing here imports torch."""

from pathlib import Path
from typing import NamedTuple

import yaml
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from aimv2.base.errors import unknown

FILE = Path(__file__).with_name("recipes.yaml")
ENCODERS = {"AIMv2-L": 1024, "AIMv2-H": 1536, "AIMv2-1B": 2048, "AIMv2-3B": 3072}  # and their widths
PUBLISHED_PX = 224
LIT = "AIMv2-L after LiT"


class Recipe(NamedTuple):
    """A labelled set of the paper, as the file describes it; ``published`` has an accuracy for each of ENCODERS."""

    name: str
    num_train: int
    num_test: int
    num_classes: int
    published: tuple[float, float, float, float]
    source: str
    place: str
    zero_shot: float | None = None
    batch_size: int = 512
    warmup_epochs: int = 0

    def warnings(self, *, num_train: int, num_test: int, num_classes: int) -> list[str]:
        """Return a sentence for each count that is not the recipe's.

        Args:
            num_train: with validation images; 0 if the set has none.
        """
        counts = {
            "training images": (self.num_train, num_train),
            "test images": (self.num_test, num_test),
            "classes": (self.num_classes, num_classes),
        }
        return [
            f"the set has {here:,} {what}, and the recipe {self.name} {expected:,}: results are not comparable"
            for what, (expected, here) in counts.items()
            if here and here != expected
        ]

    def beside(self, method: str, width: int) -> dict[str, float]:
        """Return the published accuracies that a result can be compared with: of the encoder's width if there is one.

        Args:
            method: only ``probe`` and ``zero_shot`` have any.
        """
        if method == "zero_shot":
            return {} if self.zero_shot is None else {LIT: self.zero_shot}
        if method != "probe":
            return {}
        accuracies = dict(zip(ENCODERS, self.published, strict=True))
        own = [name for name, own_width in ENCODERS.items() if own_width == width]
        return {name: accuracies[name] for name in own or ENCODERS}


RECIPES = {name: Recipe(name, **values) for name, values in yaml.safe_load(FILE.read_text()).items()}


def recipe_of(name: str) -> Recipe | None:
    """Return the recipe that a description names; None if it names none. An unknown name is a UsageError."""
    if name and name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES.get(name)


def print_recipes(console: Console) -> None:
    """Print a row for each recipe."""
    table = Table(Column("recipe", no_wrap=True), box=SIMPLE, padding=(0, 1, 0, 0))
    for title in ("train", "test", "classes", *(name.removeprefix("AIMv2-") for name in ENCODERS)):
        table.add_column(title, justify="right", no_wrap=True)
    for recipe in RECIPES.values():
        counts = (f"{count:,}" for count in (recipe.num_train, recipe.num_test, recipe.num_classes))
        table.add_row(recipe.name, *counts, *(f"{accuracy:.1f}" for accuracy in recipe.published))
    console.print(table)
    for recipe in RECIPES.values():
        console.print(f"{recipe.name}: {recipe.source}: {recipe.place}", highlight=False, soft_wrap=True)
    console.print(
        "L, H, 1B and 3B are AIMv2's accuracies in percent: attentive probe at 224 px, paper Table 3. A description"
        f" names its recipe with recipe: NAME. Zero-shot on imagenet-1k: {LIT}"
        f" {RECIPES['imagenet-1k'].zero_shot} (Table 5).",
        highlight=False,
        soft_wrap=True,
    )
