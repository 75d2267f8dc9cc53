"""The data of a run: training pairs, held-out pairs and the tokenizer."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from aimv2.base.errors import UsageError
from aimv2.base.files import write_text
from aimv2.base.order import Order, OrderedPart, quotas
from aimv2.config.data_config import DataConfig, glyphs_of, kind_of, source_name
from aimv2.data.described import described
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind, Joined, Sides, usable_captions
from aimv2.data.sources.glyph_pairs import open_glyphs, writing
from aimv2.data.sources.scenes import open_scenes
from aimv2.data.tokenizer import CaptionTokenizer

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


def render(config: DataConfig) -> None:
    """Render the glyphs that the cache lacks, and show the progress; errors as ``prepare``."""
    for source in config.sources:
        if kind_of(source) == "glyphs":
            open_source(source, config, show_progress=True)


def prepare(config: DataConfig, vocab_size: int, *, show_progress: bool = False) -> Data:
    """Return the data of a run, with a tokenizer of at most ``vocab_size`` tokens.

    Glyphs are rendered and tokenizers trained first if the cache lacks them.

    Raises:
        UsageError: a package is missing, the config leaves a side without pairs, the tokenizer is broken or too large,
            or the cache cannot be read or written.
    """
    sides = {source_name(source): open_source(source, config, show_progress=show_progress) for source in config.sources}
    train = Joined({source: side.train for source, side in sides.items()})
    unseen = {source: side.unseen for source, side in sides.items() if side.unseen is not None}
    return Data(
        train,
        Joined({source: side.held_out for source, side in sides.items()}),
        Joined(unseen) if unseen else None,
        load_tokenizer(config, vocab_size, train),
    )


def open_source(source: str, config: DataConfig, *, show_progress: bool = False) -> Sides:
    """Return the pairs of one source."""
    kind = kind_of(source)
    if kind == "files":
        return described().open_source(source, config)
    if kind == "scenes":
        return open_scenes(glyphs_of(source), config)
    return open_glyphs(source, config, show_progress=show_progress)


def order_of(config: DataConfig, train: Joined) -> Order:
    """Return the order of the training pairs.

    Without weights every pair is shown once an epoch: by one permutation of all pairs if they fit a block, else by
    turns. Built-in sources above a block have equally many scenes, and so equal shares.

    Raises:
        UsageError: a source that is shown has fewer pairs than ``canonical_nodes``.
    """
    nodes, shares = config.canonical_nodes, quotas_of(config, train)
    for number, (name, part) in enumerate(train.parts.items()):
        if len(part) < nodes and (shares is None or shares[number]):
            raise UsageError(f"data.canonical_nodes={nodes} is more than the {len(part)} training pairs of {name}")
    edges = [
        rows.start + part.block_edges(nodes)
        for rows, part in zip(train.rows.values(), train.parts.values(), strict=True)
    ]
    if shares is None and len(edges) > 1 and len(train) <= train.block_rows:
        edges = [train.block_edges(nodes)]
    parts = (
        [OrderedPart("", edges[0])]
        if shares is None and len(edges) == 1
        else list(map(OrderedPart, config.names, edges))
    )
    return Order(parts, shares, nodes)


def quotas_of(config: DataConfig, train: Joined) -> tuple[int, ...] | None:
    """Return the places of each source in every 1000 of training; None if every pair is shown once an epoch."""
    if config.weights is not None:
        return quotas(config.weights)
    if config.kind == "files" or len(train.parts) == 1 or len(train) <= train.block_rows:
        return None
    return quotas([len(part) for part in train.parts.values()])


def load_tokenizer(config: DataConfig, vocab_size: int, train: Joined) -> CaptionTokenizer:
    """Return the configured tokenizer, or the cached one that was trained on the training captions.

    Raises:
        UsageError: the tokenizer is missing or broken, or has more tokens than ``vocab_size``; or the cache
            cannot be written.
    """
    if config.tokenizer is not None:
        tokenizer = CaptionTokenizer.load(Path(config.tokenizer))
    else:
        captions = _tokenizer_captions(train)
        content = "\n".join([str(vocab_size), *captions])
        path = Path(config.cache_dir) / "tokenizers" / f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.json"
        if not path.exists():
            trained = CaptionTokenizer.train(captions, vocab_size)
            with writing(config):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, trained.to_json())
        try:
            tokenizer = CaptionTokenizer.load(path)
        except UsageError as error:
            raise UsageError(f"{path} cannot be read; delete it and it is trained again") from error
    if tokenizer.vocab_size > vocab_size:
        raise UsageError(f"the tokenizer has {tokenizer.vocab_size} tokens, more than model.vocab_size={vocab_size}")
    return tokenizer


def _tokenizer_captions(train: Joined) -> list[str]:
    """Return both captions of some pairs of each source; of one with captions of one kind, these twice."""
    texts: dict[tuple[str, CaptionKind], list[str]] = {
        (name, kind): usable_captions(part, part.spread(TOKENIZER_PAIRS), kind)
        for name, part in train.parts.items()
        for kind in part.kinds
    }
    return [
        text
        for kind in CAPTION_KINDS
        for name, part in train.parts.items()
        for text in texts[name, kind if kind in part.kinds else part.kinds[0]]
    ]
