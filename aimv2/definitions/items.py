"""Values by evaluation item, of which every final metric is a ratio of sums. Nothing here imports torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = ("metric", "item", "total", "weight")


class Items(NamedTuple):
    """The parts of a metric. Its value is sum(total) / sum(weight), so that items can be resampled.

    Attributes:
        item_N: int64 [N], the item (``Pairs.items``), by a number that is the same in every run; it may have several
            parts.
        total_N: float32 [N], such as the summed loss of a caption's tokens.
        weight_N: float32 [N], such as the number of these tokens.
    """

    item_N: np.ndarray
    total_N: np.ndarray
    weight_N: np.ndarray

    @classmethod
    def of(cls, item_N: np.ndarray, total_N: np.ndarray, weight_N: np.ndarray | float = 1.0) -> "Items":
        """Return the parts without those of weight 0."""
        total_N = np.asarray(total_N, dtype=np.float32)
        weight_N = np.broadcast_to(np.asarray(weight_N, dtype=np.float32), total_N.shape)
        is_kept_N = weight_N > 0
        return cls(np.asarray(item_N, dtype=np.int64)[is_kept_N], total_N[is_kept_N], weight_N[is_kept_N])

    @property
    def value(self) -> float:
        """Return sum(total) / sum(weight); NaN if there are no items."""
        if not len(self.item_N):
            return float("nan")
        return float(self.total_N.sum(dtype=np.float64) / self.weight_N.sum(dtype=np.float64))

    @classmethod
    def joined(cls, *several: "Items") -> "Items":
        """Return the parts of all."""
        return cls(*(np.concatenate(columns) for columns in zip(*several, strict=True)))


def table(items: Mapping[str, Items]) -> "pd.DataFrame":
    """Return a row per metric and item with the columns ``COLUMNS``; the parts of an item are summed."""
    import pandas as pd

    parts = []
    for metric, (item_N, total_N, weight_N) in items.items():
        item_M, place_N = np.unique(item_N, return_inverse=True)
        total_M, weight_M = (np.bincount(place_N, values, len(item_M)) for values in (total_N, weight_N))
        parts.append((np.repeat(metric, len(item_M)), item_M, total_M, weight_M))
    columns = list(zip(*parts, strict=True)) or [()] * len(COLUMNS)
    kinds = (np.str_, np.int64, np.float32, np.float32)
    values = (
        np.concatenate([np.empty(0, kind), *column]).astype(kind) for column, kind in zip(columns, kinds, strict=True)
    )
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
