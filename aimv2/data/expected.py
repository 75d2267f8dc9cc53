"""The expected length of training captions, known before training. Nothing here imports torch."""

from functools import lru_cache

import numpy as np

from aimv2 import address
from aimv2.config.run_config import DataConfig, ModelConfig, RunConfig
from aimv2.data.order import BLOCK
from aimv2.data.pairs import CaptionKind, Pairs, texts
from aimv2.data.prepare import mixture, prepare
from aimv2.data.tokenizer import CaptionTokenizer

NUM_CAPTIONS = 4096  # of each source and kind; the standard error of a mean length of 6 is then about half a percent


def mean_supervised_tokens(config: RunConfig) -> float:
    """Return the mean number of supervised tokens of a training sample, in shares as training draws them.

    It is the mean of a fixed sample of the training captions. Pictures are rendered and the tokenizer is trained first
    if the cache lacks them.

    Raises:
        UsageError: as ``prepare`` and ``mixture``.
    """
    return _mean_supervised_tokens(config.data, config.model, config.objective.supervise_eos)


@lru_cache(maxsize=64)  # arms of a study
def _mean_supervised_tokens(data: DataConfig, model: ModelConfig, supervise_eos: bool) -> float:
    prepared = prepare(data, model)
    train, tokenizer = prepared.train, prepared.tokenizer
    mixed = mixture(data, train)
    sources = [(BLOCK, np.arange(len(train)))] if mixed is None else zip(mixed.quotas, mixed.rows, strict=True)
    kinds: dict[CaptionKind, float] = {"short": 1 - data.dense_fraction, "dense": data.dense_fraction}
    return sum(
        quota / BLOCK * share * _mean(train, rows, kind, tokenizer, model.max_text_tokens, supervise_eos)
        for quota, rows in sources
        for kind, share in kinds.items()
        if quota and share
    )


def _mean(
    train: Pairs, rows: np.ndarray, kind: CaptionKind, tokenizer: CaptionTokenizer, max_tokens: int, supervise_eos: bool
) -> float:
    """Return the mean number of supervised tokens in captions of one kind."""
    if len(rows) > NUM_CAPTIONS:
        generator = address.generator(seed=0, purpose="expected caption length")
        rows = generator.choice(rows, NUM_CAPTIONS, replace=False)
    token_BT = tokenizer.encode(texts(train.captions(rows, kind)), max_tokens)
    return float(tokenizer.supervised(token_BT, supervise_eos=supervise_eos).sum(axis=1).mean())
