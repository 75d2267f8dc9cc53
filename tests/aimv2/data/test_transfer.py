import gzip
import struct

import numpy as np
import pytest
from sklearn.datasets import load_digits

from aimv2.data import transfer
from aimv2.data.pairs import concept_position
from aimv2.errors import UsageError


@pytest.mark.parametrize("label", ["category", "subcategory"])
def test_emoji_are_tested_on_held_out_concepts(pairs, label):
    train, held_out, _ = pairs
    task = transfer.emoji(train, held_out, label)
    emoji = held_out.table[(held_out.table["source"] == "openmoji") & ~held_out.table["is_variant"]]
    known = train.table[(train.table["source"] == "openmoji") & ~train.table["is_variant"]]
    assert len(task.train) + len(task.validation) <= len(known)
    seen = set(known.loc[known["concept"].map(lambda c: concept_position(f"probe {c}")) >= 0.2, label])
    assert task.num_classes == len(seen)
    assert len(task.test) == emoji[label].isin(seen).sum()
    assert set(task.train.labels) == set(range(task.num_classes))
    assert set(task.test.labels) <= set(task.train.labels)
    assert 0.1 < len(task.validation) / (len(task.train) + len(task.validation)) < 0.3


def test_emoji_task_needs_emoji_in_every_split(pairs):
    train, held_out, _ = pairs
    icons = (train.where(train.table["source"] != "openmoji"), held_out.where(held_out.table["source"] != "openmoji"))
    assert transfer.emoji(*icons, "category") is None
    few = held_out.where(held_out.table["is_variant"])
    assert transfer.emoji(train, few, "category") is None
    names = [task.name for task in transfer.transfer_sets(*icons)]
    assert "digits" in names
    assert not [name for name in names if name.startswith("emoji")]


def test_digits_are_all_used_once_in_grey():
    task = transfer.digits()
    images = np.concatenate([task.train.images, task.validation.images, task.test.images])
    labels = np.concatenate([task.train.labels, task.validation.labels, task.test.labels])
    expected = load_digits()
    assert images.shape == (1797, 8, 8, 3)
    assert (images[..., 0] == images[..., 2]).all()
    assert np.bincount(labels).tolist() == np.bincount(expected.target).tolist()
    assert images.max() == 255
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == len(np.unique(expected.images.reshape(1797, -1), axis=0))


@pytest.fixture
def fashion(tmp_path):
    """Small files in Fashion-MNIST's format."""
    rng = np.random.default_rng(0)
    for stem, count in (("train", 50), ("t10k", 20)):
        arrays = {"images-idx3": rng.integers(0, 256, (count, 28, 28)), "labels-idx1": rng.integers(0, 10, count)}
        for part, array in arrays.items():
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            path = tmp_path / f"{stem}-{part}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
    return tmp_path


def test_fashion_mnist_is_read_if_installed(fashion, tmp_path):
    task = transfer.fashion_mnist(fashion)
    assert (len(task.train), len(task.validation), len(task.test)) == (40, 10, 20)
    assert task.test.images.shape == (20, 28, 28, 3)
    assert transfer.fashion_mnist(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("content", [b"\0\0\x0d\x01\0\0\0\x02ab", b"\0\0\x08\x01\0\0\0\x09ab"])
def test_broken_idx_file_is_named(fashion, content):
    (fashion / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UsageError, match="train-labels"):
        transfer.fashion_mnist(fashion)
