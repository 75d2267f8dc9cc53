"""The image-text pairs of a run, rendered once and split by concept."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import Progress

from aimv2 import address
from aimv2.config.run_config import DataConfig, ModelConfig
from aimv2.data import glyphs, likeness
from aimv2.data.order import Mixture, quotas
from aimv2.data.shards import INDEX, Shards, write_shards
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.errors import UsageError
from aimv2.runs.files import write_text


class Pairs:
    """Pairs of one or more sources.

    Attributes:
        table: a row per pair: ``Glyph.labels``, with the glyph's group (``aimv2.data.likeness``) as ``concept``;
            ``sample_id`` (for random addresses), and ``row``, the place of the picture in its shards.
    """

    def __init__(self, table: pd.DataFrame, shards: dict[str, Shards]) -> None:
        self.table = table.reset_index(drop=True)
        self._shards = shards
        self._places = list(zip(self.table["source"], self.table["row"].tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.table)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Return the pictures of the given rows: uint8 [B, S, S, 3]."""
        places = (self._places[row] for row in rows.tolist())
        return np.stack([self._shards[source].image(row) for source, row in places])

    def where(self, chosen: pd.Series | np.ndarray) -> "Pairs":
        """Return the pairs for which ``chosen`` (bool, a value per row) is True."""
        return Pairs(self.table[np.asarray(chosen)], self._shards)

    def subset(self, num_pairs: int) -> "Pairs":
        """Return the first ``num_pairs`` by sample id, a random subset that is the same for every run."""
        return self.where(self.table["sample_id"].rank() <= num_pairs)


def prepare(
    config: DataConfig, model: ModelConfig, *, show_progress: bool = False
) -> tuple[Pairs, Pairs, CaptionTokenizer]:
    """Return training pairs, held-out pairs and tokenizer; render and train them first if the cache lacks them.

    Raises:
        UsageError: as ``load_pairs``, ``split`` and ``load_tokenizer``.
    """
    train, held_out = split(load_pairs(config, show_progress=show_progress), config.held_out_fraction)
    return train, held_out, load_tokenizer(config, model, train)


def load_pairs(config: DataConfig, *, show_progress: bool = False) -> Pairs:
    """Return all pairs of the configured sources; render them first if the cache lacks them.

    Raises:
        UsageError: a package of a source is not installed, or the cache cannot be written or read.
    """
    shards: dict[str, Shards] = {source: Shards(_rendered(source, config, show_progress)) for source in config.sources}
    tables = [opened.table.assign(row=np.arange(len(opened))) for opened in shards.values()]
    table = pd.concat(tables, ignore_index=True)
    return Pairs(table.assign(sample_id=table["key"].map(glyphs.sample_id)), shards)


def split(pairs: Pairs, held_out_fraction: float) -> tuple[Pairs, Pairs]:
    """Split pairs into training and held-out pairs, with no group of like glyphs on both sides.

    The hash of its name decides a group's side, which is therefore the same in every source.

    Raises:
        UsageError: one side has no pair.
    """
    held_out = pairs.table["concept"].map(concept_position) < held_out_fraction
    for side, has_none, change in (("training", held_out.all(), "lower"), ("held-out", not held_out.any(), "raise")):
        if has_none:
            raise UsageError(
                f"data.held_out_fraction={held_out_fraction} leaves no {side} pair out of {len(pairs):,}; {change} it"
            )
    return pairs.where(~held_out), pairs.where(held_out)


def concept_position(concept: str) -> float:
    """Map the name of a concept to [0, 1) by its hash."""
    return address.hash64(concept) / 2**64


def mixture(config: DataConfig, train: Pairs) -> Mixture | None:
    """Return the share of each source in training; None if the config has no weights.

    Raises:
        UsageError: a source with a weight above 0 has no training pair.
    """
    if config.weights is None:
        return None
    source_N = train.table["source"].to_numpy()
    rows_of = tuple(np.flatnonzero(source_N == name) for name in config.sources)
    mixed = Mixture(config.sources, quotas(config.weights), rows_of)
    for name, quota, rows in zip(*mixed, strict=True):
        if quota and not len(rows):
            weights = list(config.weights)
            raise UsageError(f"data.weights={weights}: {name!r} has no training pair; its weight must be 0")
    return mixed


def load_tokenizer(config: DataConfig, model: ModelConfig, train: Pairs) -> CaptionTokenizer:
    """Return the configured tokenizer, or the cached one that was trained on the training captions.

    Raises:
        UsageError: the tokenizer is missing or broken, or has more tokens than ``model.vocab_size``; or the cache
            cannot be written.
    """
    if config.tokenizer is not None:
        tokenizer = CaptionTokenizer.load(Path(config.tokenizer))
    else:
        captions = [*train.table["name"], *train.table["description"]]
        content = "\n".join([str(model.vocab_size), *captions])
        path = Path(config.cache_dir) / "tokenizers" / f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.json"
        if not path.exists():
            trained = CaptionTokenizer.train(captions, model.vocab_size)
            with _writing(config):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, trained.to_json())
        try:
            tokenizer = CaptionTokenizer.load(path)
        except UsageError as error:
            raise UsageError(f"{path} cannot be read; delete it and it is trained again") from error
    if tokenizer.vocab_size > model.vocab_size:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, more than model.vocab_size={model.vocab_size}"
        )
    return tokenizer


def _rendered(source: str, config: DataConfig, show_progress: bool) -> Path:
    """Return the folder of a source's shards; render them first if it is missing."""
    folder = Path(config.cache_dir) / "pairs" / f"{source}-{config.render_px}px-{glyphs.version(source)}"
    if (folder / INDEX).exists():
        return folder
    found = list(glyphs.SOURCES[source]())
    with Progress(disable=not show_progress, transient=True) as progress, _writing(config):
        tracked = progress.track(found, description=f"rendering {source}")
        group_of = likeness.groups()
        labelled = (glyph.labels | {"concept": group_of[glyph.key]} for glyph in found)
        pictures = (glyph.render(config.render_px) for glyph in tracked)
        write_shards(folder, zip(pictures, labelled, strict=True))
    return folder


@contextmanager
def _writing(config: DataConfig) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"data.cache_dir={config.cache_dir!r} cannot be written: {error.strerror}") from error
