"""Records in memory, and random pictures as PNG files."""

import io

import numpy as np
from PIL import Image

from aimv2.base import address
from aimv2.base.errors import BadSampleError
from aimv2.datasets.index import DataPart
from aimv2.datasets.records import Records


class MemoryRecords(Records):
    """PNG files, and a dict of fields for each; None in place of a file is a missing image."""

    def __init__(self, files, fields=None):
        self._files, self._fields = files, fields or [{} for _ in files]
        self.block_rows = len(files)

    @property
    def retries(self):
        return 0

    def part_edges(self):
        return np.array([0, len(self)])

    def expect(self, blocks):
        """Nothing is prepared."""

    def __reduce__(self):
        return type(self), (self._files, self._fields)

    def __len__(self):
        return len(self._files)

    def key(self, row):
        return f"key-{row}"

    def key_hashes(self, row_B):
        return np.array([address.hash64(self.key(row)) for row in row_B.tolist()], dtype=np.uint64)

    def image(self, row):
        if self._files[row] is None:
            raise BadSampleError("missing image", self.key(row))
        return self._files[row]

    def field(self, row, name):
        value = self._fields[row].get(name)
        if isinstance(value, Exception):
            raise value
        return value

    def parts(self):
        return [DataPart("memory", len(self), sum(len(file or b"") for file in self._files), "x")]

    def fields(self):
        return sorted({name for fields in self._fields for name in fields})

    def check(self):
        """There are no files."""


def with_field(name, values):
    """Return records of samples without images that have these values of a field."""
    return MemoryRecords([b""] * len(values), [{name: value} for value in values])


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def random_pictures():
    """Return ten random pictures of different sizes, smooth so that resizing methods can be told apart."""
    generator = np.random.default_rng(0)
    sizes = [(40 + 7 * n, 60 - 3 * n) for n in range(10)]
    small = (Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in sizes)
    return [
        np.asarray(picture.resize(size, Image.Resampling.BICUBIC)) for picture, size in zip(small, sizes, strict=True)
    ]
