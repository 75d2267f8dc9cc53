"""Checks of the trained network on held-out captions, and captions that it writes.

Letters: N captions, B images, T caption tokens, V vocabulary, E decoder width.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2.base import address
from aimv2.data.pairs import CaptionKind, usable_captions
from aimv2.evaluation.generation import beam, greedy, nucleus
from aimv2.evaluation.held_out import Captions as Prepared
from aimv2.evaluation.held_out import chunks
from aimv2.model.encoder_decoder import EncoderDecoder
from analysis.verify.check import Check, clustered_mean
from analysis.verify.trained_run import TrainedRun

MAX_TRAIN_PAIRS = 10_000  # whose tokens are counted
NUM_WRITTEN = 32  # images whose captions are written with and without the cache
MAX_DIFFERENCE = 1e-4  # of the logits' range: float32 sums in another order differ by less
NUM_BEAMS = 4
TOP_P = 0.9
MIN_GAIN = 0.05  # nats/token; with random weights, 12 seeds have intervals between -0.04 and +0.03
UNIGRAM = "captions beat token frequencies"
IMAGE = "captions depend on their image"
CACHE = "writing with the cache equals writing without"

Write = Callable[[EncoderDecoder, Tensor, int], Tensor]


class WrittenCaption(NamedTuple):
    """A held-out caption (``row`` of the pairs), its teacher-forced perplexity, and what the network writes instead."""

    row: int
    reference: str
    perplexity: float
    greedy: str
    beam: str
    nucleus: str


class Captions(NamedTuple):
    checks: list[Check]
    shown: list[WrittenCaption]


def captions(run: TrainedRun, rows: np.ndarray, write: Write = greedy) -> Captions:
    """Check the captions, and write those of the given held-out rows.

    Args:
        write: greedy search with the cache.
    """
    model = run.model
    if "captions" not in run.objective.reports:
        why = f"objective {run.config.objective.name} writes no captions"
        return Captions([Check(check, None, why) for check in (UNIGRAM, IMAGE, CACHE)], [])
    assert isinstance(model, EncoderDecoder)
    nats_N = caption_nats(run, model, run.pairs.dense)
    checks = [_check_unigram(run, model, nats_N), _check_image(run, model, nats_N), _check_cache(run, model, write)]
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
    for rows in chunks(len(data)):
        token_BT = data.token_NT[rows].to(device)
        _, text_BSE = model(image[rows].to(device), token_BT, None, data.text_len_N[rows].to(device))
        logits_BTV = model.decoder.text_head(text_BSE[:, :-1])
        nats_BT = F.cross_entropy(logits_BTV.transpose(1, 2).float(), token_BT, reduction="none").double().cpu()
        parts.append(torch.where(data.supervised_NT[rows], nats_BT, 0).sum(dim=1))
    return torch.cat(parts).numpy()


def unigram(run: TrainedRun, kind: CaptionKind) -> np.ndarray:
    """Return the log-probability of each token [V]: its frequency among the supervised tokens of the training captions
    of one kind, with one added to every count. Of many training pairs a random part is counted."""
    config, tokenizer = run.config, run.tokenizer
    pairs = run.train.subset(MAX_TRAIN_PAIRS)
    token_NT = tokenizer.encode(usable_captions(pairs, range(len(pairs)), kind), config.model.max_text_tokens)
    supervised = token_NT[tokenizer.supervised(token_NT, supervise_eos=config.objective.supervise_eos)]
    count_V = np.bincount(supervised, minlength=tokenizer.vocab_size) + 1.0
    log_probability_V: np.ndarray = np.log(count_V / count_V.sum())
    return log_probability_V


def _unigram_nats(run: TrainedRun, kind: CaptionKind, data: Prepared) -> np.ndarray:
    nats_NT = np.where(data.supervised_NT.numpy(), -unigram(run, kind)[data.token_NT.numpy()], 0)
    nats_N: np.ndarray = nats_NT.sum(axis=1)
    return nats_N


def _num_tokens(data: Prepared) -> np.ndarray:
    return data.supervised_NT.sum(dim=1).numpy().astype(float)


def _perplexity(nats_per_token: float) -> float:
    return math.exp(min(nats_per_token, 700))  # a float overflows beyond


def _check_unigram(run: TrainedRun, model: EncoderDecoder, dense_nats_N: np.ndarray) -> Check:
    """Compare the network's cross-entropy on both captions of the held-out pairs with the unigram models'.

    Short and dense captions have a unigram model each, a stronger baseline than one for both. The dense captions alone
    are reported, not judged.
    """
    both: dict[CaptionKind, Prepared] = {"dense": run.pairs.dense, "short": run.pairs.short}
    own_2N = np.stack([dense_nats_N, caption_nats(run, model, run.pairs.short)])
    other_2N = np.stack([_unigram_nats(run, kind, data) for kind, data in both.items()])
    count_2N = np.stack([_num_tokens(data) for data in both.values()])
    difference = clustered_mean((own_2N - other_2N).sum(axis=0), count_2N.sum(axis=0), run.pairs.item_N)
    own, other = (float(nats_2N.sum() / count_2N.sum()) for nats_2N in (own_2N, other_2N))
    own_dense, other_dense = (nats_2N[0].sum() / count_2N[0].sum() for nats_2N in (own_2N, other_2N))
    found = (
        f"both captions of {len(run.held_out):,} held-out pairs, {int(count_2N.sum()):,} tokens: {own:.3f} nats/token"
        f" (perplexity {_perplexity(own):.1f}) against {other:.3f} ({_perplexity(other):.1f}), difference"
        f" {difference.text()}; dense captions alone {own_dense:.3f} against {other_dense:.3f}"
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


def _check_cache(run: TrainedRun, model: EncoderDecoder, write: Write) -> Check:
    """Compare logits computed position by position with the cache to those of one pass over the whole sequence, and
    each greedy token's logit to the largest of the latter. If both agree, only captions in which tokens tie differ."""
    image = run.image[:NUM_WRITTEN].to(run.config.device)
    num_tokens = run.config.model.max_text_tokens - 1
    written_BT = write(model, image, num_tokens)
    one_BTV, other_BTV = (logits(model, image, written_BT) for logits in (logits_with_cache, logits_without_cache))
    span = other_BTV.max() - other_BTV.min()
    difference = float((one_BTV - other_BTV).abs().max() / span)
    chosen_BT = other_BTV.gather(2, written_BT[..., None]).squeeze(2)
    shortfall = float((other_BTV.amax(dim=2) - chosen_BT).max() / span)
    # Greedy search without the cache writes the same caption if each token is the best one after those before it.
    num_equal = int((written_BT == other_BTV.argmax(dim=2)).all(dim=1).sum())
    found = (
        f"{num_equal} of {len(image)} greedy captions of {num_tokens} tokens equal, largest difference of logits"
        f" {difference:.1e} of their range, of a chosen token to the best {shortfall:.1e}"
    )
    passes = difference <= MAX_DIFFERENCE and shortfall <= MAX_DIFFERENCE
    return Check(CACHE, passes, found, f"both at most {MAX_DIFFERENCE:g}, so that only ties may differ")


@torch.no_grad()
def logits_without_cache(model: EncoderDecoder, image: Tensor, token_BT: Tensor) -> Tensor:
    """Return the logits of each of these tokens, computed in one pass: [B, T, V]."""
    text_len_B = torch.full((len(image),), token_BT.shape[1], device=image.device)
    _, text_BSE = model.decoder(model.encoder(image), token_BT, text_len_B)
    logits_BTV: Tensor = model.decoder.text_head(text_BSE[:, :-1])
    return logits_BTV


@torch.no_grad()
def logits_with_cache(model: EncoderDecoder, image: Tensor, token_BT: Tensor) -> Tensor:
    """Return the logits of each of these tokens, read one by one: [B, T, V]."""
    hidden_BE, cache = model.decoder.begin(model.encoder(image))
    hidden = [hidden_BE, *(model.decoder.extend(token_B, cache) for token_B in token_BT[:, :-1].unbind(dim=1))]
    logits_BTV: Tensor = model.decoder.text_head(torch.stack(hidden, dim=1))
    return logits_BTV


def _written(run: TrainedRun, model: EncoderDecoder, rows: np.ndarray, nats_N: np.ndarray) -> list[WrittenCaption]:
    """Write captions greedily, by beam search and by nucleus sampling.

    With end-of-text unsupervised the network never learned to stop; its captions are then as long as the reference.
    """
    config, data, tokenizer = run.config, run.pairs.dense, run.tokenizer
    num_tokens, stops = config.model.max_text_tokens - 1, config.objective.supervise_eos
    image = run.image[rows].to(config.device)
    greedy_BT = greedy(model, image, num_tokens).cpu()
    nucleus_BT = nucleus(model, image, num_tokens, top_p=TOP_P, seed=config.seed).cpu()
    written = []
    for place, row in enumerate(rows.tolist()):
        count = max(1, int(data.supervised_NT[row].sum()))
        length, end_id = (num_tokens, tokenizer.end_id) if stops else (count, None)
        beam_1KT, _ = beam(model, image[place : place + 1], length, num_beams=NUM_BEAMS, end_id=end_id)
        token_rows = (greedy_BT[place, :length], beam_1KT[0, 0], nucleus_BT[place, :length])
        texts = (tokenizer.decode(tokens.tolist()) for tokens in token_rows)
        (reference,) = run.held_out.captions(np.array([row]), "dense")
        written.append(WrittenCaption(row, reference.text, _perplexity(nats_N[row] / count), *texts))
    return written
