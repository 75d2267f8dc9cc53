"""Glyphs as pairs: rendered once into a NumPy file, and split by concept."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import Progress

from aimv2.base import address
from aimv2.base.errors import UsageError
from aimv2.base.files import replacing
from aimv2.config.data_config import DataConfig
from aimv2.data.pairs import CaptionKind, Pairs, Sides
from aimv2.data.sources import glyphs
from aimv2.data.sources.scene import INKS, Caption, WordClass
from aimv2.data.tokenizer import clean

if TYPE_CHECKING:
    import pandas as pd

LABELS, PICTURES = "labels.parquet", "pictures.npy"
_COLUMNS: dict[CaptionKind, str] = {"short": "name", "dense": "description"}


class GlyphPictures:
    """Pictures in a NumPy file, uint8 [N, S, S, 3], mapped into memory by each process that reads them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, row: int) -> np.ndarray:
        return np.asarray(self.mapped[row])

    @cached_property
    def mapped(self) -> np.ndarray:
        return np.asanyarray(np.load(self.path, mmap_mode="r", allow_pickle=False))

    def __reduce__(self) -> tuple[type["GlyphPictures"], tuple[Path]]:
        return type(self), (self.path,)


class GlyphPairs(Pairs):
    """Rendered glyphs. The short caption is the name, the dense one the description."""

    def __init__(self, table: "pd.DataFrame", pictures: GlyphPictures) -> None:
        # ``Glyph.labels``, with the glyph's group as ``concept``; ``sample_id``, and ``row``, the place of its picture.
        self.table = table.reset_index(drop=True)
        self._pictures = pictures
        self._ids = self.table["sample_id"].to_numpy()
        self._rows = self.table["row"].tolist()
        # No DataFrame in the training path: reading a cell of one takes longer than rendering a scene.
        self._texts = {kind: self.table[column].tolist() for kind, column in _COLUMNS.items()}
        self._items = self.table["concept"].map(address.hash64).to_numpy(dtype=np.uint64).astype(np.int64)

    def __len__(self) -> int:
        return len(self.table)

    def keys(self, row_B: np.ndarray) -> list[str]:
        return self.table["key"].iloc[row_B].tolist()

    def sample_ids(self, row_B: np.ndarray) -> np.ndarray:
        return np.asarray(self._ids[row_B])

    def items(self, row_B: np.ndarray) -> np.ndarray:
        """Return a number for the concept of each pair, because its variants are near copies."""
        return np.asarray(self._items[row_B])

    def picture(self, row: int) -> np.ndarray:
        return self._pictures[self._rows[row]]

    def caption(self, row: int, kind: CaptionKind, choice: float = 0.0) -> Caption:
        names = set(clean(self._texts["short"][row]).split())
        words = tuple(clean(self._texts[kind][row]).split())
        classes: list[WordClass] = ["object" if word in names else "ink" if word in INKS else "other" for word in words]
        return Caption(words, tuple(classes))

    def where(self, chosen: "pd.Series | np.ndarray") -> "GlyphPairs":
        """Return the pairs for which ``chosen`` (bool, a value per row) is True."""
        return GlyphPairs(self.table[np.asarray(chosen)], self._pictures)


def open_glyphs(source: str, config: DataConfig, *, show_progress: bool = False) -> Sides:
    """Return a source's training and held-out pairs; render them first if the cache lacks them."""
    pairs = _read(_rendered(source, config, show_progress))
    table = pairs.table
    held_out = table["concept"].map(concept_position) < config.held_out_fraction
    for side, has_none, change in (("training", held_out.all(), "lower"), ("held-out", not held_out.any(), "raise")):
        if has_none:
            raise UsageError(
                f"data.held_out_fraction={config.held_out_fraction} leaves no {side} pair of {source} out of"
                f" {len(pairs):,}; {change} it"
            )
    return Sides(pairs.where(~held_out), pairs.where(held_out))


def _read(folder: Path) -> GlyphPairs:
    import pandas as pd  # here, because a run on scenes needs none to start

    try:
        table, pictures = pd.read_parquet(folder / LABELS), GlyphPictures(folder / PICTURES)
        if len(pictures.mapped) != len(table):
            raise ValueError(f"{len(pictures.mapped)} pictures of {len(table)}")
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} cannot be read ({error}); delete it and it is made again") from error
    return GlyphPairs(table.assign(row=np.arange(len(table)), sample_id=table["key"].map(glyphs.sample_id)), pictures)


def concept_position(concept: str) -> float:
    """Map the name of a group of like glyphs to [0, 1) by its hash. A group is on the same side in every source."""
    return address.hash64(concept) / 2**64


def _rendered(source: str, config: DataConfig, show_progress: bool) -> Path:
    """Return the folder of a source's labels and pictures; render them first if it is missing."""
    folder = Path(config.cache_dir) / "glyphs" / f"{source}-{config.render_px}px-{glyphs.version(source)}"
    if (folder / LABELS).exists():
        return folder
    import pandas as pd

    with writing(config):
        folder.parent.mkdir(parents=True, exist_ok=True)  # before the work, if it cannot be written
    found, group_of = list(glyphs.SOURCES[source]()), glyphs.groups()
    with Progress(disable=not show_progress, transient=True) as progress, writing(config):
        try:
            with replacing(folder, only_new=True) as partial:
                partial.mkdir()
                shape = (len(found), config.render_px, config.render_px, 3)
                picture_N = np.lib.format.open_memmap(partial / PICTURES, "w+", np.uint8, shape)
                for row, glyph in enumerate(progress.track(found, description=f"rendering {source}")):
                    picture_N[row] = glyph.render(config.render_px)
                labels = pd.DataFrame([glyph.labels | {"concept": group_of[glyph.key]} for glyph in found])
                labels.to_parquet(partial / LABELS)
        except OSError:
            if not (folder / LABELS).exists():  # another process may have been faster
                raise
    return folder


@contextmanager
def writing(config: DataConfig) -> Iterator[None]:
    """Turn an error of the cache's file system into a UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"data.cache_dir={config.cache_dir!r} cannot be written: {error.strerror}") from error
