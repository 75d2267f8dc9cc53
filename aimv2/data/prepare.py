"""The data of a run: training pairs, held-out pairs, the tokenizer, and the length of captions to expect."""

import hashlib
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aimv2.base import address
from aimv2.base.errors import UsageError
from aimv2.base.files import write_text
from aimv2.base.order import Order, OrderedPart, quotas
from aimv2.config.data_config import DataConfig, glyphs_of, kind_of, source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CAPTION_KINDS, CaptionKind, Joined, Pairs, Sides, usable_captions
from aimv2.data.sources.glyph_pairs import open_glyphs, writing
from aimv2.data.sources.scenes import open_scenes
from aimv2.data.tokenizer import CaptionTokenizer

TOKENIZER_PAIRS = 3000  # of each source; all if it has fewer
NUM_CAPTIONS = 4096  # of each source and kind; the standard error of a mean length of 6 is then about half a percent


class Data(NamedTuple):
    train: Joined  # the pairs of all sources
    held_out: Joined  # pairs whose compositions or concepts training does not show
    unseen: Joined | None  # held-out pairs with objects that training does not show; None if no source has them
    tokenizer: CaptionTokenizer


def render(config: DataConfig) -> None:
    """Render the glyphs that the cache lacks, and show the progress; errors as ``prepare``."""
    for source in config.sources:
        if kind_of(source) == "glyphs":
            open_source(source, config, show_progress=True)


def prepare(config: DataConfig, vocab_size: int, *, show_progress: bool = False) -> Data:
    """Return the data of a run, with a tokenizer of at most ``vocab_size`` tokens.

    Glyphs are rendered and tokenizers trained first if the cache lacks them.
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
    kind = kind_of(source)
    if kind == "files":
        from aimv2.datasets.open import open_source as open_described  # here, because it takes long to import

        return open_described(source, config)
    if kind == "scenes":
        return open_scenes(glyphs_of(source), config)
    return open_glyphs(source, config, show_progress=show_progress)


def order_of(config: DataConfig, train: Joined) -> Order:
    """Return the order of the training pairs.

    Without weights every pair is shown once an epoch: by one permutation of all pairs if they fit a block, else by
    turns. Built-in sources above a block have equally many scenes, and so equal shares.
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
    """Return the configured tokenizer, or the cached one that was trained on the training captions."""
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


def mean_supervised_tokens(config: RunConfig) -> float:
    """Return the mean number of supervised tokens of a training sample, in shares as training draws them.

    It is the mean of a fixed sample of the training captions. Pictures are rendered and the tokenizer is trained first
    if the cache lacks them.
    """
    model, objective = config.model, config.objective
    return _mean_supervised_tokens(config.data, model.vocab_size, model.max_text_tokens, objective.supervise_eos)


@lru_cache(maxsize=64)  # most arms of a study have the same captions
def _mean_supervised_tokens(data: DataConfig, vocab_size: int, max_tokens: int, supervise_eos: bool) -> float:
    prepared = prepare(data, vocab_size)
    train, tokenizer = prepared.train, prepared.tokenizer
    quotas = quotas_of(data, train)
    if quotas is None and data.dense_fractions is None:
        shares = [(1.0, range(len(train)), data.dense_fraction, train.kinds)]
    else:
        sizes = [len(part) for part in train.parts.values()]
        weights = quotas or sizes
        shares = [
            (weight / sum(weights), train.rows[name], data.dense_share(number), part.kinds)
            for number, (weight, (name, part)) in enumerate(zip(weights, train.parts.items(), strict=True))
        ]
    mean = partial(_mean, train, tokenizer=tokenizer, max_tokens=max_tokens, supervise_eos=supervise_eos)
    total = 0.0
    for share, rows, dense, kinds in shares:
        of_kind: dict[CaptionKind, float] = {"short": 1 - dense, "dense": dense}
        if len(kinds) == 1:
            of_kind = {kinds[0]: 1.0}
        total += sum(share * part * mean(rows, kind) for kind, part in of_kind.items() if share and part)
    return total


def _mean(
    train: Pairs, rows: range, kind: CaptionKind, *, tokenizer: CaptionTokenizer, max_tokens: int, supervise_eos: bool
) -> float:
    if len(rows) <= NUM_CAPTIONS:
        chosen = np.arange(len(rows))
    else:
        generator = address.generator(seed=0, purpose="expected caption length")
        chosen = generator.choice(len(rows), NUM_CAPTIONS, replace=False)
    token_BT = tokenizer.encode(usable_captions(train, rows.start + chosen, kind), max_tokens)
    return float(tokenizer.supervised(token_BT, supervise_eos=supervise_eos).sum(axis=1).mean())
