"""Experiments 3b to 3d: what the trained network knows of held-out captions, and how it writes.

Letters: N captions, B images, T caption tokens, V vocabulary, E decoder width.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aimv2 import address
from aimv2.data.pairs import Pairs
from aimv2.data.text import clean
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.evaluation.captions import beam, greedy, nucleus
from aimv2.evaluation.losses import HeldOut, chunks
from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.objectives import objective
from analysis.verify.line import Line, clustered_mean, judged, not_applicable
from analysis.verify.subject import Subject

NUM_WRITTEN = 32  # images whose captions are written with and without the cache
MOST_DIFFERENCE = 1e-4  # of the logits' range: float32 sums in another order, and no more
NUM_BEAMS = 4
TOP_P = 0.9
UNIGRAM_TITLE = "captions beat token frequencies"
IMAGE_TITLE = "captions depend on their image"
CACHE_TITLE = "writing with the cache equals writing without"
SHOWN_TITLE = "written captions"


@dataclass(frozen=True)
class Caption:
    """A held-out caption and what the network writes in its place.

    Attributes:
        row: of the held-out pairs.
        perplexity: of the reference, teacher-forced.
    """

    row: int
    reference: str
    perplexity: float
    greedy: str
    beam: str
    nucleus: str


class Captions(NamedTuple):
    """The lines of 3b, 3c and 3d, and the captions to show."""

    lines: list[Line]
    shown: list[Caption]


def captions(subject: Subject, rows: np.ndarray) -> Captions:
    """All that concerns captions; those of the given held-out rows are shown."""
    config = subject.config
    if "captions" not in objective(config.objective.name).reports:
        why = f"objective {config.objective.name} writes no captions"
        titles = {UNIGRAM_TITLE: "3b", IMAGE_TITLE: "3b", CACHE_TITLE: "3c", SHOWN_TITLE: "3d"}
        return Captions([not_applicable(number, title, why) for title, number in titles.items()], [])
    model = subject.model
    assert isinstance(model, EncoderDecoder)
    nats_N = caption_nats(subject, model, subject.names)
    shown = _shown(subject, model, rows, nats_N)
    count = len(shown)
    lines = [
        _unigram_line(subject, model, nats_N),
        _image_line(subject, model, nats_N),
        _cache_line(subject, model),
        Line(
            "3d", SHOWN_TITLE, "SHOWN", f"greedy, beam and nucleus captions of {count} held-out images, in the report"
        ),
    ]
    return Captions(lines, shown)


@torch.no_grad()
def caption_nats(
    subject: Subject, model: EncoderDecoder, data: HeldOut, image_of_N: np.ndarray | None = None
) -> np.ndarray:
    """Cross-entropy of each held-out caption, summed over its supervised tokens: float64 [N].

    Teacher-forced, with full attention in the encoder.

    Args:
        image_of_N: whose image each caption is given; None is its own.
    """
    image, device = data.image if image_of_N is None else data.image[image_of_N], subject.config.device
    parts = []
    for rows in chunks(len(data)):
        token_BT = data.token_NT[rows].to(device)
        _, text_BSE = model(image[rows].to(device), token_BT, None, data.text_len_N[rows].to(device))
        logits_BTV = model.decoder.text_head(text_BSE[:, :-1])
        nats_BT = F.cross_entropy(logits_BTV.transpose(1, 2).float(), token_BT, reduction="none").double().cpu()
        parts.append(torch.where(data.supervised_NT[rows], nats_BT, 0).sum(dim=1))
    return torch.cat(parts).numpy()


def unigram(
    train: Pairs, caption: str, tokenizer: CaptionTokenizer, *, max_tokens: int, supervise_eos: bool
) -> np.ndarray:
    """Log-probability of each token [V]: its frequency among the supervised tokens of the training captions of one
    kind, ``name`` or ``description``, one added to every count."""
    token_NT = tokenizer.encode(train.table[caption].tolist(), max_tokens)
    found = token_NT[tokenizer.supervised(token_NT, supervise_eos=supervise_eos)]
    count_V = np.bincount(found, minlength=tokenizer.vocab_size) + 1.0
    log_probability_V: np.ndarray = np.log(count_V / count_V.sum())
    return log_probability_V


def _perplexity(nats_per_token: float) -> float:
    return math.exp(min(nats_per_token, 700))  # beyond it a float overflows


def _num_tokens(data: HeldOut) -> np.ndarray:
    return data.supervised_NT.sum(dim=1).numpy().astype(float)


def _unigram_line(subject: Subject, model: EncoderDecoder, name_nats_N: np.ndarray) -> Line:
    """Passes if the network's cross-entropy on both captions of the held-out pairs is below the unigram models' on the
    same tokens, with the whole 95 % interval of the difference.

    Names and descriptions have a unigram model each, a stronger baseline than one for both. The names alone are shown
    too, and not judged: no training caption has their concepts, so a network that learned its captions by heart may be
    surer of wrong names than frequencies are.
    """
    config = subject.config
    nats, baseline, count = (np.zeros(len(subject.names)) for _ in range(3))
    alone = ""
    for caption, data in (("name", subject.names), ("description", subject.descriptions)):
        log_probability_V = unigram(
            subject.train,
            caption,
            subject.tokenizer,
            max_tokens=config.model.max_text_tokens,
            supervise_eos=config.objective.supervise_eos,
        )
        token_NT, supervised_NT = data.token_NT.numpy(), data.supervised_NT.numpy()
        nats += name_nats_N if caption == "name" else caption_nats(subject, model, data)
        baseline += np.where(supervised_NT, -log_probability_V[token_NT], 0).sum(axis=1)
        count += _num_tokens(data)
        alone = alone or f"{nats.sum() / count.sum():.3f} against {baseline.sum() / count.sum():.3f}"
    difference = clustered_mean(nats - baseline, count, subject.concept_N)
    own, other = nats.sum() / count.sum(), baseline.sum() / count.sum()
    found = (
        f"both captions of {len(nats):,} held-out pairs, {int(count.sum()):,} tokens: {own:.3f} nats/token (perplexity"
        f" {_perplexity(own):.1f}) against {other:.3f} ({_perplexity(other):.1f}), difference {difference}; names alone"
        f" {alone}"
    )
    return judged("3b", UNIGRAM_TITLE, difference.high < 0, found, "difference below 0 with its 95 % interval")


def _image_line(subject: Subject, model: EncoderDecoder, nats_N: np.ndarray) -> Line:
    """Passes if captions are likelier with their own image than with another one's, with the whole 95 % interval.

    The other image is the next in a fixed random order. Some captions share a concept, or even a name, with it, which
    can only lessen the difference.
    """
    if subject.config.model.decoder.order == "text_first":
        return not_applicable("3b", IMAGE_TITLE, "a text-first decoder predicts captions without the image")
    data = subject.names
    other_N = derangement(len(data))
    other_nats_N = caption_nats(subject, model, data, other_N)
    count_N = _num_tokens(data)
    difference = clustered_mean(other_nats_N - nats_N, count_N, subject.concept_N)
    own, other = nats_N.sum() / count_N.sum(), other_nats_N.sum() / count_N.sum()
    found = f"{own:.3f} nats/token with its own image, {other:.3f} with another, difference {difference}"
    return judged("3b", IMAGE_TITLE, difference.low > 0, found, "difference above 0 with its 95 % interval")


def derangement(num_rows: int) -> np.ndarray:
    """Another row for each row, in a fixed random way: int64 [num_rows]."""
    order = address.generator(seed=0, purpose="verify derangement").permutation(num_rows)
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return other


def _cache_line(subject: Subject, model: EncoderDecoder) -> Line:
    """Passes if logits computed position by position with the cache differ from those of one pass over the whole
    sequence by no more than float32 sums do, and each greedy token has the largest of the latter but for as much. Then
    the captions are the same unless two tokens tie.
    """
    image = subject.names.image[:NUM_WRITTEN].to(subject.config.device)
    num_tokens = subject.config.model.max_text_tokens - 1
    written_BT = greedy(model, image, num_tokens)
    again_BT = greedy_without_cache(model, image, num_tokens)
    one_BTV, other_BTV = logits_with_cache(model, image, written_BT), logits_without_cache(model, image, written_BT)
    span = other_BTV.max() - other_BTV.min()
    difference = float((one_BTV - other_BTV).abs().max() / span)
    chosen_BT = other_BTV.gather(2, written_BT[..., None]).squeeze(2)
    shortfall = float((other_BTV.amax(dim=2) - chosen_BT).max() / span)
    num_equal = int((written_BT == again_BT).all(dim=1).sum())
    found = (
        f"{num_equal} of {len(image)} greedy captions of {num_tokens} tokens equal, largest difference of logits"
        f" {difference:.1e} of their range, of a chosen token to the best {shortfall:.1e}"
    )
    passes = difference <= MOST_DIFFERENCE and shortfall <= MOST_DIFFERENCE
    return judged("3c", CACHE_TITLE, passes, found, f"both at most {MOST_DIFFERENCE:g}, so that only ties may differ")


@torch.no_grad()
def greedy_without_cache(model: EncoderDecoder, image: Tensor, num_tokens: int) -> Tensor:
    """As ``captions.greedy``, the whole sequence read again for each token: int64 [B, num_tokens]."""
    features_BID = model.encoder(image)
    token_BT = torch.empty((len(image), 0), dtype=torch.int64, device=image.device)
    for _ in range(num_tokens):
        text_len_B = torch.full((len(image),), token_BT.shape[1], device=image.device)
        _, text_BSE = model.decoder(features_BID, token_BT, text_len_B)
        token_BT = torch.cat([token_BT, model.decoder.text_head(text_BSE[:, -1:]).argmax(dim=-1)], dim=1)
    return token_BT


@torch.no_grad()
def logits_with_cache(model: EncoderDecoder, image: Tensor, token_BT: Tensor) -> Tensor:
    """Logits of each of these tokens, read one by one: [B, T, V]."""
    hidden_BE, cache = model.decoder.begin(model.encoder(image))
    hidden = [hidden_BE]
    hidden += [model.decoder.extend(token_B, cache) for token_B in token_BT[:, :-1].unbind(dim=1)]
    logits_BTV: Tensor = model.decoder.text_head(torch.stack(hidden, dim=1))
    return logits_BTV


@torch.no_grad()
def logits_without_cache(model: EncoderDecoder, image: Tensor, token_BT: Tensor) -> Tensor:
    """The same in one pass."""
    text_len_B = torch.full((len(image),), token_BT.shape[1], device=image.device)
    _, text_BSE = model.decoder(model.encoder(image), token_BT, text_len_B)
    logits_BTV: Tensor = model.decoder.text_head(text_BSE[:, :-1])
    return logits_BTV


def _shown(subject: Subject, model: EncoderDecoder, rows: np.ndarray, nats_N: np.ndarray) -> list[Caption]:
    """Greedy, beam and nucleus captions.

    With end-of-text unsupervised the network never learned to stop; its captions are then as long as the reference.
    """
    config, data, tokenizer = subject.config, subject.names, subject.tokenizer
    num_tokens = config.model.max_text_tokens - 1
    image = data.image[rows].to(config.device)
    greedy_BT = greedy(model, image, num_tokens).cpu()
    nucleus_BT = nucleus(model, image, num_tokens, top_p=TOP_P, seed=config.seed).cpu()
    shown = []
    for place, row in enumerate(rows.tolist()):
        count = int(data.supervised_NT[row].sum())
        stops = config.objective.supervise_eos
        length = num_tokens if stops else max(1, count)
        end_id = tokenizer.end_id if stops else None
        beam_1KT, _ = beam(model, image[place : place + 1], length, num_beams=NUM_BEAMS, end_id=end_id)
        shown.append(
            Caption(
                row=row,
                reference=clean(subject.held_out.table["name"][row]),
                perplexity=_perplexity(nats_N[row] / max(1, count)),
                greedy=tokenizer.decode(greedy_BT[place, :length].tolist()),
                beam=tokenizer.decode(beam_1KT[0, 0].tolist()),
                nucleus=tokenizer.decode(nucleus_BT[place, :length].tolist()),
            )
        )
    return shown
