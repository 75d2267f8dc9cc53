"""Written captions against full passes without a cache, enumeration and closed forms."""

import functools
import itertools
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from aimv2.evaluation.generation import beam, examples, greedy, nucleus
from aimv2.model.network import build

END_ID = 1
VARIANTS = {
    "joint": {},
    "separate": {"sharing": "separate"},
    "text_first": {"order": "text_first"},
    "image_positions": {"image_positions": True},
    "layer_norm": {"norm": "layer"},
    "gelu": {"ffn": "gelu"},
    "deeper": {"depth": 3, "width": 48, "num_heads": 3},
    "cappa": {},
}


def opinionated(config):
    """Return the run's network with weights so large that captions differ and no two tokens are close."""
    model = build(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(mean=float(parameter.ndim == 1), std=0.3, generator=generator)
    return model


@pytest.fixture(scope="module", params=VARIANTS)
def model(request, tiny):
    config = replace(tiny, model=replace(tiny.model, decoder=replace(tiny.model.decoder, **VARIANTS[request.param])))
    if request.param == "cappa":
        config = replace(config, objective=replace(config.objective, name="cappa"))
    return opinionated(config)


@pytest.fixture(scope="module")
def small(tiny):
    """A model of five tokens and captions of three, few enough to enumerate."""
    config = replace(tiny, model=replace(tiny.model, vocab_size=5, max_text_tokens=3))
    model = opinionated(config)
    model.decoder.text_head.weight.data.mul_(0.3)  # so that every caption has a chance
    return model


@torch.no_grad()
def next_logits(model, image, token_BT):
    """Return the decoder's logits of the next token, [B, V], from one pass without a cache."""
    text_len_B = torch.full((len(image),), token_BT.shape[1])
    _, text_BSE = model(image, token_BT, None, text_len_B)
    return model.decoder.text_head(text_BSE[:, -1])


def caption_log_probs(model, image, *, end_id=None):
    """Return every caption of three tokens out of five, padded after ``end_id``, with its log-probability."""

    @functools.cache
    def next_log_prob(caption):
        read = torch.tensor([caption], dtype=torch.int64)
        return next_logits(model, image[None], read)[0].double().log_softmax(dim=0).tolist()

    found = {}
    for caption in itertools.product(range(5), repeat=3):
        log_prob = 0.0
        for place, token in enumerate(caption):
            if end_id in caption[:place]:
                caption = (*caption[:place], *[end_id] * (3 - place))
                break
            log_prob += next_log_prob(caption[:place])[token]
        found[caption] = log_prob
    return found


def test_greedy_writes_the_most_likely_token_of_a_full_pass(model, images):
    tokens = torch.empty((len(images), 0), dtype=torch.int64)
    for _ in range(12):
        tokens = torch.cat([tokens, next_logits(model, images, tokens).argmax(dim=-1, keepdim=True)], dim=1)
    written = greedy(model, images, 12)
    assert written.dtype == torch.int64
    assert torch.equal(written, tokens)
    assert torch.equal(greedy(model, images, 4), tokens[:, :4])
    assert len(tokens.unique()) > 3, "captions of one token would show nothing"


@torch.no_grad()
def test_cached_logits_match_a_full_pass(model, images, tokens):
    model, images = deepcopy(model).double(), images.double()
    hidden, cache = model.decoder.begin(model.encoder(images))
    for place in range(tokens.shape[1] + 1):
        expected = next_logits(model, images, tokens[:, :place])
        torch.testing.assert_close(model.decoder.text_head(hidden), expected)
        if place < tokens.shape[1]:
            hidden = model.decoder.extend(tokens[:, place], cache)


@torch.no_grad()
def test_selected_rows_of_a_cache_match_a_full_pass(model, images, tokens):
    model, images = deepcopy(model).double(), images.double()
    hidden, cache = model.decoder.begin(model.encoder(images))
    model.decoder.extend(tokens[:, 0], cache)
    rows = torch.tensor([4, 0, 0, 5])
    cache.select(rows)
    hidden = model.decoder.extend(tokens[:4, 1], cache)
    read = torch.stack([tokens[rows, 0], tokens[:4, 1]], dim=1)
    expected = next_logits(model, images[rows], read)
    torch.testing.assert_close(model.decoder.text_head(hidden), expected)


def test_one_beam_is_greedy(model, images):
    written, score = beam(model, images, 6, num_beams=1)
    assert torch.equal(written[:, 0], greedy(model, images, 6))
    for row in range(len(images)):
        expected = 0.0
        for place, token in enumerate(written[row, 0].tolist()):
            logits = next_logits(model, images[row : row + 1], written[row, :, :place])
            expected += float(logits[0].log_softmax(dim=0)[token])
        assert float(score[row, 0]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("num_beams", "end_id"), [(125, None), (25, None), (125, END_ID), (3, END_ID)])
def test_beams_find_the_best_captions_with_their_log_probabilities(small, images, num_beams, end_id):
    """125 beams hold every caption of three tokens out of five, and 25 all of two, so that the 25 best are found. A
    caption that has ended keeps its probability, and fewer than 125 are possible. Three beams need not be the best."""
    written, score = beam(small, images[:2], 3, num_beams=num_beams, end_id=end_id)
    for row in range(2):
        expected = caption_log_probs(small, images[row], end_id=end_id)
        captions = [tuple(caption) for caption in written[row].tolist()][: len(expected)]
        if num_beams > 3:
            assert captions == sorted(expected, key=expected.get, reverse=True)[:num_beams]
        assert len(set(captions)) == min(num_beams, len(expected))
        found = score[row, : len(captions)].numpy()
        np.testing.assert_allclose(found, [expected[caption] for caption in captions], atol=1e-5)
        assert (np.diff(found) <= 0).all()
        assert (score[row, len(expected) :] == -torch.inf).all(), "there are no more captions"
    assert len(expected) == (125 if end_id is None else 1 + 4 + 16 + 64)


def test_smallest_nucleus_is_greedy(model, images):
    assert torch.equal(nucleus(model, images, 8, top_p=1e-9, seed=0), greedy(model, images, 8))


def kept(prob_V, top_p):
    """The distribution over the fewest tokens that together have ``top_p``, as an obvious loop."""
    order = sorted(range(len(prob_V)), key=lambda token: -prob_V[token])
    chosen = []
    while len(chosen) < len(order) and sum(prob_V[token] for token in chosen) < top_p:
        chosen.append(order[len(chosen)])
    total = sum(prob_V[token] for token in chosen)
    return [prob_V[token] / total if token in chosen else 0.0 for token in range(len(prob_V))]


@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_nucleus_samples_follow_the_renormalised_probabilities(small, images, top_p):
    """Both tokens of two, jointly, for one image many times."""
    draws = 2000
    expected = np.zeros((5, 5))
    nothing = torch.empty((1, 0), dtype=torch.int64)
    first_V = kept(next_logits(small, images[:1], nothing)[0].softmax(dim=0).tolist(), top_p)
    for token in range(5):
        second_V = next_logits(small, images[:1], torch.tensor([[token]]))[0].softmax(dim=0).tolist()
        expected[token] = np.multiply(first_V[token], kept(second_V, top_p))
    written = nucleus(small, images[:1].expand(draws, -1, -1, -1), 2, top_p=top_p, seed=3)
    observed = np.zeros((5, 5))
    np.add.at(observed, tuple(written.numpy().T), 1)
    possible = expected > 0
    assert possible.all() == (top_p == 1)
    assert observed[~possible].sum() == 0
    assert chisquare(observed[possible], draws * expected[possible] / expected[possible].sum()).pvalue > 1e-3


def test_draws_depend_on_seed_row_and_position_only(small, images):
    same = images[:1].expand(40, -1, -1, -1)
    written = nucleus(small, same, 3, top_p=1, seed=5)
    torch.rand(7)
    assert torch.equal(nucleus(small, same[:11], 3, top_p=1, seed=5), written[:11])
    assert not torch.equal(nucleus(small, same, 3, top_p=1, seed=6), written)
    assert len(written.unique(dim=0)) > 5, "rows draw independently"
    assert len({tuple(column) for column in written.T.tolist()}) == 3, "and so do positions"


def test_examples_have_the_reference_and_the_models_caption(tiny, pairs):
    model, held_out = build(tiny), pairs.held_out.subset(3)
    shown = examples(model, held_out, pairs.tokenizer, tiny)
    rows = np.arange(3)
    assert [example["reference"] for example in shown] == [c.text for c in held_out.captions(rows, "dense")]
    assert [example["key"] for example in shown] == held_out.keys(rows)
    assert all(set(example) == {"key", "reference", "written", "png"} for example in shown)
    assert examples(model, held_out.subset(0), pairs.tokenizer, tiny) == []
