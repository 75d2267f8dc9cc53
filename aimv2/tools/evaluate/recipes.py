"""The labelled sets of the paper's Table 3: their origin, and what was published. Nothing here imports torch."""

from typing import NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

ENCODERS = {"AIMv2-L": 1024, "AIMv2-H": 1536, "AIMv2-1B": 2048, "AIMv2-3B": 3072}  # and their widths
PUBLISHED_PX = 224
LIT = "AIMv2-L after LiT"


class Recipe(NamedTuple):
    """A labelled set of the paper.

    Attributes:
        num_train, num_test, num_classes: as in the paper's Table B1.
        published: accuracy in percent of each of ENCODERS at 224 px (Table 3), of the best setting of the grid,
            apparently selected on the test set. All are shares of right images; none is a mean per class.
        source: the official name and place of the data.
        place: what to put where.
        zero_shot: published zero-shot accuracy of LIT in percent (Table 5); None if there is none.
        batch_size, warmup_epochs: of the attentive probe (Table A2).
    """

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


_WILDS = "WILDS (wilds.stanford.edu)"
_TABLE = "a table with the paths and labels"

_ALL = (
    Recipe(
        "imagenet-1k",
        1_281_167,
        50_000,
        1000,
        (86.6, 87.5, 88.1, 88.5),
        "ILSVRC 2012 (image-net.org, after registration)",
        "train/SYNSET/*.JPEG as unpacked; test: the 50,000 validation images, moved into folders by synset",
        zero_shot=77.0,
        batch_size=1024,
        warmup_epochs=5,
    ),
    Recipe(
        "inaturalist-2018",
        437_513,
        24_426,
        8142,
        (76.0, 77.9, 79.7, 81.5),
        "iNaturalist 2018 competition (github.com/visipedia/inat_comp)",
        f"train_val2018/, and {_TABLE} made of train2018.json and val2018.json; val is the test",
    ),
    Recipe(
        "cifar-10",
        50_000,
        10_000,
        10,
        (99.1, 99.3, 99.4, 99.5),
        "CIFAR-10 (cs.toronto.edu/~kriz/cifar.html)",
        "train/CLASS/*.png and test/CLASS/*.png, written from the binary version",
    ),
    Recipe(
        "cifar-100",
        50_000,
        10_000,
        100,
        (92.2, 93.5, 94.1, 94.3),
        "CIFAR-100 (cs.toronto.edu/~kriz/cifar.html)",
        "train/CLASS/*.png and test/CLASS/*.png by fine label, written from the binary version",
    ),
    Recipe(
        "food-101",
        75_750,
        25_250,
        101,
        (95.7, 96.3, 96.7, 96.8),
        "Food-101 (data.vision.ee.ethz.ch/cvl/datasets_extra/food-101)",
        f"images/CLASS/*.jpg, and {_TABLE} made of meta/train.txt and meta/test.txt",
    ),
    Recipe(
        "dtd",
        3760,
        1880,
        47,
        (87.9, 88.2, 88.4, 88.9),
        "Describable Textures (robots.ox.ac.uk/~vgg/data/dtd)",
        f"images/CLASS/*.jpg, and {_TABLE}: train is train1.txt with val1.txt, test is test1.txt",
    ),
    Recipe(
        "pets",
        3680,
        3669,
        37,
        (96.3, 96.6, 96.8, 97.1),
        "Oxford-IIIT Pet (robots.ox.ac.uk/~vgg/data/pets)",
        f"images/*.jpg, and {_TABLE} made of annotations/trainval.txt and annotations/test.txt",
    ),
    Recipe(
        "cars",
        8144,
        8041,
        196,
        (96.3, 96.4, 96.5, 96.5),
        "Stanford Cars (its original address is offline; copies exist)",
        f"cars_train/ and cars_test/, and {_TABLE} made of the devkit's annotations",
    ),
    Recipe(
        "camelyon17",
        302_436,
        34_904,
        2,
        (93.7, 93.3, 94.2, 93.5),
        f"Camelyon17 of {_WILDS}",
        f"patches/, and {_TABLE} made of metadata.csv; by its size, the paper's test is WILDS' validation",
    ),
    Recipe(
        "pcam",
        262_144,
        32_768,
        2,
        (89.3, 89.3, 89.0, 89.4),
        "PatchCamelyon (github.com/basveeling/pcam)",
        "train/CLASS/*.png and test/CLASS/*.png, written from the HDF5 files",
    ),
    Recipe(
        "rxrx1",
        40_612,
        9854,
        1139,
        (5.6, 5.8, 6.7, 7.3),
        f"RxRx1 of {_WILDS}",
        f"images/, and {_TABLE} made of metadata.csv; by its size, the paper's test is WILDS' validation",
    ),
    Recipe(
        "eurosat",
        16_200,
        5400,
        10,
        (98.4, 98.5, 98.8, 99.0),
        "EuroSAT, RGB (github.com/phelber/EuroSAT)",
        "train/CLASS/*.jpg and test/CLASS/*.jpg; the paper does not name the images of its 16,200 and 5,400",
    ),
    Recipe(
        "fmow",
        76_863,
        19_915,
        62,
        (60.7, 62.2, 63.2, 64.2),
        f"Functional Map of the World of {_WILDS}",
        f"images/, and {_TABLE} made of rgb_metadata.csv; by its size, the paper's test is WILDS' validation",
    ),
    Recipe(
        "infographic",
        36_023,
        15_582,
        345,
        (69.0, 70.4, 71.7, 72.2),
        "DomainNet, infograph (ai.bu.edu/M3SDA)",
        f"infograph/, and {_TABLE} made of infograph_train.txt and infograph_test.txt",
    ),
)
RECIPES = {recipe.name: recipe for recipe in _ALL}


def warnings(recipe: Recipe, *, num_train: int, num_test: int, num_classes: int) -> list[str]:
    """Return a sentence for each count that is not the recipe's.

    Args:
        num_train: with validation images; 0 if the set has none.
    """
    counts = {
        "training images": (recipe.num_train, num_train),
        "test images": (recipe.num_test, num_test),
        "classes": (recipe.num_classes, num_classes),
    }
    return [
        f"the set has {here:,} {what}, and the recipe {recipe.name} {expected:,}: results are not comparable"
        for what, (expected, here) in counts.items()
        if here and here != expected
    ]


def print_recipes(console: Console) -> None:
    """Print a row for each recipe."""
    table = Table(Column("recipe", no_wrap=True), box=SIMPLE, padding=(0, 1, 0, 0))
    for title in ("train", "test", "classes", *(name.removeprefix("AIMv2-") for name in ENCODERS)):
        table.add_column(title, justify="right", no_wrap=True)
    for recipe in _ALL:
        counts = (f"{count:,}" for count in (recipe.num_train, recipe.num_test, recipe.num_classes))
        table.add_row(recipe.name, *counts, *(f"{accuracy:.1f}" for accuracy in recipe.published))
    console.print(table)
    for recipe in _ALL:
        console.print(f"{recipe.name}: {recipe.source}: {recipe.place}", highlight=False, soft_wrap=True)
    console.print(
        "L, H, 1B and 3B are AIMv2's accuracies in percent: attentive probe at 224 px, paper Table 3. A description"
        f" names its recipe with recipe: NAME. Zero-shot on imagenet-1k: {LIT}"
        f" {RECIPES['imagenet-1k'].zero_shot} (Table 5).",
        highlight=False,
        soft_wrap=True,
    )
