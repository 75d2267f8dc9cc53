"""Transfer sets: labelled images on which frozen encoders are probed."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aimv2 import address
from aimv2.data.pairs import Pairs, concept_position
from aimv2.errors import UsageError

VALIDATION_SHARE = 0.2
FASHION_MNIST_DIR = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
FASHION_MNIST_TRAIN = 6000  # a random part of the 60,000 images, to keep probes short
FASHION_MNIST_TEST = 2000


@dataclass(frozen=True)
class Labelled:
    """Images with class numbers: uint8 [N, S, S, 3] and int64 [N]."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TransferSet:
    """A classification task in three splits. Hyper-parameters are chosen on ``validation``, never on ``test``.

    Attributes:
        is_whole: images are resized without a crop, which would cut into what they show.
    """

    name: str
    num_classes: int
    train: Labelled
    validation: Labelled
    test: Labelled
    is_whole: bool = False


def emoji(train: Pairs, held_out: Pairs, label: str) -> TransferSet | None:
    """Return emoji with their ``category`` or ``subcategory``, tested on held-out concepts; None if a split is empty.

    Skin-tone variants are left out, because they are half of all emoji, and so are classes without a training concept.
    """
    known, test = (
        pairs.where((pairs.table["source"] == "openmoji") & ~pairs.table["is_variant"]) for pairs in (train, held_out)
    )
    # A different hash from that of the training and held-out sides, so that the two splits are independent.
    is_validation = known.table["concept"].map(lambda concept: concept_position(f"probe {concept}")) < VALIDATION_SHARE
    fit = known.where(~is_validation)
    classes = sorted(fit.table[label].unique())
    parts = []
    for pairs in (fit, known.where(is_validation), test):
        usable = pairs.where(pairs.table[label].isin(classes))
        if not len(usable):
            return None
        labels = usable.table[label].map(classes.index).to_numpy(dtype=np.int64)
        parts.append(Labelled(usable.images(np.arange(len(usable))), labels))
    return TransferSet(f"emoji_{label}", len(classes), parts[0], parts[1], parts[2])


def digits() -> TransferSet:
    """Return scikit-learn's 1,797 handwritten digits, 8 px: 60 % train, 20 % validation, 20 % test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    order = address.generator(seed=0, purpose="digits split").permutation(len(images))
    cuts = np.split(order, [round(0.6 * len(order)), round(0.8 * len(order))])
    train, validation, test = (_grey(images, bunch.target, rows) for rows in cuts)
    return TransferSet("digits", 10, train, validation, test, is_whole=True)


def fashion_mnist(folder: Path = FASHION_MNIST_DIR) -> TransferSet | None:
    """Return a fixed random part of Fashion-MNIST, 28 px; None if its files are not installed."""
    if not (folder / "train-images-idx3-ubyte.gz").exists():
        return None
    train, test = (
        (_read_idx(folder / f"{stem}-images-idx3-ubyte.gz"), _read_idx(folder / f"{stem}-labels-idx1-ubyte.gz"))
        for stem in ("train", "t10k")
    )
    generator = address.generator(seed=0, purpose="fashion_mnist split")
    chosen = generator.permutation(len(train[0]))[:FASHION_MNIST_TRAIN]
    tested = generator.permutation(len(test[0]))[:FASHION_MNIST_TEST]
    fit, validation = np.split(chosen, [round((1 - VALIDATION_SHARE) * len(chosen))])
    splits = _grey(*train, fit), _grey(*train, validation), _grey(*test, tested)
    return TransferSet("fashion_mnist", 10, *splits, is_whole=True)


def transfer_sets(train: Pairs, held_out: Pairs) -> list[TransferSet]:
    """Return every task whose data this machine has."""
    sets = [emoji(train, held_out, "subcategory"), emoji(train, held_out, "category"), digits(), fashion_mnist()]
    return [task for task in sets if task is not None]


def _grey(image_NSS: np.ndarray, label_N: np.ndarray, rows: np.ndarray) -> Labelled:
    return Labelled(np.repeat(image_NSS[rows, ..., None], 3, axis=-1), label_N[rows].astype(np.int64))


def _read_idx(path: Path) -> np.ndarray:
    """Read a gzip-compressed IDX file of unsigned bytes."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise UsageError(f"{path} is not an IDX file of unsigned bytes")
    num_axes = content[3]
    try:
        shape = np.frombuffer(content, ">u4", count=num_axes, offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(shape)
    except ValueError as error:
        raise UsageError(f"{path} is broken: {error}") from error
