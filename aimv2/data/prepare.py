"""The data of a run: training pairs, held-out pairs and the tokenizer."""

import hashlib
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aimv2.config.run_config import SCENE_SOURCES, DataConfig, ModelConfig, Source
from aimv2.data.order import Mixture, quotas
from aimv2.data.pairs import CAPTION_KINDS, Joined, Sides, texts
from aimv2.data.sources.glyph_pairs import open_glyphs, writing
from aimv2.data.sources.scenes import open_scenes
from aimv2.data.sources.version import glyphs_of
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.errors import UsageError
from aimv2.runs.files import write_text

TOKENIZER_PAIRS = 3000  # of each source; all if it has fewer


class Data(NamedTuple):
    """The data of a run.

    Attributes:
        train: the pairs of all sources.
        held_out: pairs whose compositions or concepts training does not show.
        unseen: held-out pairs with objects that training does not show; None if no source has them.
    """

    train: Joined
    held_out: Joined
    unseen: Joined | None
    tokenizer: CaptionTokenizer


def prepare(config: DataConfig, model: ModelConfig, *, show_progress: bool = False) -> Data:
    """Return the data of a run; glyphs are rendered and tokenizers trained first if the cache lacks them.

    Raises:
        UsageError: a package is missing, the config leaves a side without pairs, the tokenizer is broken or too large,
            or the cache cannot be read or written.
    """
    sides: dict[str, Sides] = {
        source: open_source(source, config, show_progress=show_progress) for source in config.sources
    }
    train = Joined({source: side.train for source, side in sides.items()})
    unseen = {source: side.unseen for source, side in sides.items() if side.unseen is not None}
    return Data(
        train,
        Joined({source: side.held_out for source, side in sides.items()}),
        Joined(unseen) if unseen else None,
        load_tokenizer(config, model, train),
    )


def open_source(source: Source, config: DataConfig, *, show_progress: bool = False) -> Sides:
    """Return the pairs of one source."""
    if source in SCENE_SOURCES:
        return open_scenes(glyphs_of(source), config)
    return open_glyphs(source, config, show_progress=show_progress)


def mixture(config: DataConfig, train: Joined) -> Mixture | None:
    """Return the share of each source in training; None if the config has no weights."""
    if config.weights is None:
        return None
    return Mixture(config.sources, quotas(config.weights), tuple(train.rows[source] for source in config.sources))


def load_tokenizer(config: DataConfig, model: ModelConfig, train: Joined) -> CaptionTokenizer:
    """Return the configured tokenizer, or the cached one that was trained on the training captions.

    Raises:
        UsageError: the tokenizer is missing or broken, or has more tokens than ``model.vocab_size``; or the cache
            cannot be written.
    """
    if config.tokenizer is not None:
        tokenizer = CaptionTokenizer.load(Path(config.tokenizer))
    else:
        captions = _tokenizer_captions(train)
        content = "\n".join([str(model.vocab_size), *captions])
        path = Path(config.cache_dir) / "tokenizers" / f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.json"
        if not path.exists():
            trained = CaptionTokenizer.train(captions, model.vocab_size)
            with writing(config):
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


def _tokenizer_captions(train: Joined) -> list[str]:
    rows = np.concatenate([rows[:TOKENIZER_PAIRS] for rows in train.rows.values()])
    return list(chain.from_iterable(texts(train.captions(rows, kind)) for kind in CAPTION_KINDS))
