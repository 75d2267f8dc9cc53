"""Checks of the trained network on held-out captions, and captions that it writes.

Letters: N captions, B images, T caption tokens, V vocabulary, E decoder width.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from aimv2.analysis.verify.check import Check, clustered_mean
from aimv2.analysis.verify.trained_run import TrainedRun
from aimv2.base import address
from aimv2.data.pairs import usable_captions
from aimv2.evaluation.held_out import Captions as Prepared
from aimv2.evaluation.held_out import chunks
from aimv2.evaluation.pictures import written_captions
from aimv2.memory.evaluation import images_at_once
from aimv2.model.network import EncoderDecoder

MAX_TRAIN_PAIRS = 10_000  # whose tokens are counted
MIN_GAIN = 0.05  # nats/token; with random weights, 12 seeds have intervals between -0.04 and +0.03
UNIGRAM = "captions beat token frequencies"
IMAGE = "captions depend on their image"


class WrittenCaption(NamedTuple):
    """A held-out caption (``row`` of the pairs), its teacher-forced perplexity, and what the network writes instead."""

    row: int
    reference: str
    perplexity: float
    written: str


class Captions(NamedTuple):
    checks: list[Check]
    shown: list[WrittenCaption]


def captions(run: TrainedRun, rows: np.ndarray) -> Captions:
    """Check the captions, and write those of the given held-out rows by greedy decoding."""
    model = run.model
    if "captions" not in run.objective.reports:
        why = f"objective {run.config.objective.name} writes no captions"
        return Captions([Check(check, None, why) for check in (UNIGRAM, IMAGE)], [])
    assert isinstance(model, EncoderDecoder)
    nats_N = caption_nats(run, model, run.pairs.dense)
    checks = [_check_unigram(run, nats_N), _check_image(run, model, nats_N)]
    return Captions(checks, _written(run, model, rows, nats_N))


@torch.no_grad()
def caption_nats(
    run: TrainedRun, model: EncoderDecoder, data: Prepared, image_of_N: np.ndarray | None = None
) -> np.ndarray:
    """Return each held-out caption's cross-entropy, summed over its supervised tokens: float64 [N].

    Teacher-forced, with full attention in the encoder.

    Args:
        image_of_N: the row of the image that each caption is given; None is its own.
    """
    image, device = run.image if image_of_N is None else run.image[image_of_N], run.config.device
    parts = []
    for rows in chunks(len(data), images_at_once(run.config)):
        token_BT = data.token_NT[rows].to(device)
        _, text_BSE = model(image[rows].to(device), token_BT, None, data.text_len_N[rows].to(device))
        logits_BTV = model.decoder.text_head(text_BSE[:, :-1])
        nats_BT = F.cross_entropy(logits_BTV.transpose(1, 2).float(), token_BT, reduction="none").double().cpu()
        parts.append(torch.where(data.supervised_NT[rows], nats_BT, 0).sum(dim=1))
    return torch.cat(parts).numpy()


def unigram(run: TrainedRun) -> np.ndarray:
    """Return the log-probability of each token [V]: its frequency among the supervised tokens of the dense training
    captions, with one added to every count. Of many training pairs a random part is counted."""
    config, tokenizer = run.config, run.tokenizer
    pairs = run.train.subset(MAX_TRAIN_PAIRS)
    token_NT = tokenizer.encode(usable_captions(pairs, range(len(pairs)), "dense"), config.model.max_text_tokens)
    supervised = token_NT[tokenizer.supervised(token_NT, supervise_eos=config.objective.supervise_eos)]
    count_V = np.bincount(supervised, minlength=tokenizer.vocab_size) + 1.0
    log_probability_V: np.ndarray = np.log(count_V / count_V.sum())
    return log_probability_V


def _num_tokens(data: Prepared) -> np.ndarray:
    return data.supervised_NT.sum(dim=1).numpy().astype(float)


def _perplexity(nats_per_token: float) -> float:
    return math.exp(min(nats_per_token, 700))  # a float overflows beyond


def _check_unigram(run: TrainedRun, nats_N: np.ndarray) -> Check:
    """Compare the network's cross-entropy on held-out dense captions with that of a unigram model."""
    data, count_N = run.pairs.dense, _num_tokens(run.pairs.dense)
    other_N = np.where(data.supervised_NT.numpy(), -unigram(run)[data.token_NT.numpy()], 0).sum(axis=1)
    difference = clustered_mean(nats_N - other_N, count_N, run.pairs.item_N)
    own, other = (float(each_N.sum() / count_N.sum()) for each_N in (nats_N, other_N))
    found = (
        f"dense captions of {len(run.held_out):,} held-out pairs, {int(count_N.sum()):,} tokens: {own:.3f} nats/token"
        f" (perplexity {_perplexity(own):.1f}) against {other:.3f} ({_perplexity(other):.1f}), difference"
        f" {difference.text()}"
    )
    return Check(UNIGRAM, difference.high < 0, found, "difference below 0 with its 95 % interval")


def _check_image(run: TrainedRun, model: EncoderDecoder, nats_N: np.ndarray) -> Check:
    """Compare the captions' cross-entropy given their own image and given the next one in a fixed random order.

    Some captions say the same of the other image, which can only reduce the difference.
    """
    if run.config.model.decoder.order == "text_first":
        return Check(IMAGE, None, "a text-first decoder predicts captions without the image")
    other_nats_N = caption_nats(run, model, run.pairs.dense, derangement(len(run.pairs.dense)))
    count_N = _num_tokens(run.pairs.dense)
    difference = clustered_mean(other_nats_N - nats_N, count_N, run.pairs.item_N)
    own, other = nats_N.sum() / count_N.sum(), other_nats_N.sum() / count_N.sum()
    found = f"{own:.3f} nats/token with its own image, {other:.3f} with another, difference {difference.text()}"
    criterion = f"difference above {MIN_GAIN:g} with its 95 % interval"
    return Check(IMAGE, difference.low > MIN_GAIN, found, criterion)


def derangement(num_rows: int) -> np.ndarray:
    """Return another row for each row, in a fixed random way: int64 [num_rows]."""
    order = address.generator(seed=0, purpose="verify derangement").permutation(num_rows)
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return other


def _written(run: TrainedRun, model: EncoderDecoder, rows: np.ndarray, nats_N: np.ndarray) -> list[WrittenCaption]:
    references = run.held_out.captions(rows, "dense")
    texts = written_captions(model, run.image[rows], references, run.tokenizer, run.config)
    count_N = np.maximum(_num_tokens(run.pairs.dense), 1)
    return [
        WrittenCaption(row, reference.text, _perplexity(nats_N[row] / count_N[row]), text)
        for row, reference, text in zip(rows.tolist(), references, texts, strict=True)
    ]
