"""The expected length of training captions, known before training. Nothing here imports torch."""

from functools import lru_cache, partial

import numpy as np

from aimv2.base import address
from aimv2.config.data_config import DataConfig
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import CaptionKind, Pairs, usable_captions
from aimv2.data.prepare import prepare, quotas_of
from aimv2.data.tokenizer import CaptionTokenizer

NUM_CAPTIONS = 4096  # of each source and kind; the standard error of a mean length of 6 is then about half a percent


def mean_supervised_tokens(config: RunConfig) -> float:
    """Return the mean number of supervised tokens of a training sample, in shares as training draws them.

    It is the mean of a fixed sample of the training captions. Pictures are rendered and the tokenizer is trained first
    if the cache lacks them.

    Raises:
        UsageError: as ``prepare``.
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
    """Return the mean number of supervised tokens in captions of one kind."""
    if len(rows) <= NUM_CAPTIONS:
        chosen = np.arange(len(rows))
    else:
        generator = address.generator(seed=0, purpose="expected caption length")
        chosen = generator.choice(len(rows), NUM_CAPTIONS, replace=False)
    token_BT = tokenizer.encode(usable_captions(train, rows.start + chosen, kind), max_tokens)
    return float(tokenizer.supervised(token_BT, supervise_eos=supervise_eos).sum(axis=1).mean())
