"""Losses against the evaluation's, writing against broken writing."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.evaluation.features import encode
from aimv2.evaluation.generation import greedy
from aimv2.evaluation.losses import token_nats
from aimv2.model.network import build
from analysis.verify.captions import (
    CACHE,
    IMAGE,
    UNIGRAM,
    caption_nats,
    captions,
    derangement,
    logits_with_cache,
    logits_without_cache,
    unigram,
)

ROWS = np.arange(3)


def by_name(run, **options):
    return {check.name: check for check in captions(run, ROWS, **options).checks}


def test_trained_run_passes(run):
    found = captions(run, ROWS)
    assert [check.verdict for check in found.checks] == ["PASS"] * 3
    assert [caption.row for caption in found.shown] == ROWS.tolist()


def test_random_weights_know_no_captions(run):
    checks = by_name(replace(run, model=build(run.config).eval()))
    assert checks[UNIGRAM].verdict == "FAIL"
    assert checks[IMAGE].verdict == "FAIL", "an association by accident is no use of the image"
    assert checks[CACHE].verdict == "PASS", "writing is right whatever is written"


def test_network_that_ignores_images_fails(run, broken):
    checks = by_name(broken(run, "encoder", "forward", lambda forward, image, *_: 0 * forward(image)))
    assert checks[IMAGE].verdict == "FAIL"
    assert "difference +0.000 (no interval)" in checks[IMAGE].found


def test_nats_sum_to_the_loss_of_the_evaluation(small):
    nats_N = caption_nats(small, small.model, small.pairs.dense)
    features = encode(small.model.encoder, small.pairs.images, small.config)
    expected_NT = token_nats(small.model, features, small.pairs.dense, small.config)
    assert nats_N == pytest.approx(expected_NT.sum(dim=1).numpy(), rel=1e-4)


@pytest.mark.parametrize("kind", ["short", "dense"])
def test_unigram_counts_tokens_of_training_captions(small, kind):
    count = Counter()
    for caption in small.train.captions(np.arange(len(small.train)), kind):
        tokens = small.tokenizer.encode([caption.text], 12)[0].tolist()
        count.update(token for token in tokens if token != small.tokenizer.end_id)
    total = sum(count.values()) + small.tokenizer.vocab_size
    expected = [math.log((count[token] + 1) / total) for token in range(small.tokenizer.vocab_size)]
    found = unigram(small, kind)
    assert found == pytest.approx(np.array(expected))
    assert np.exp(found).sum() == pytest.approx(1)


@pytest.mark.parametrize("num_rows", [2, 3, 512])
def test_derangement_gives_every_row_another(num_rows):
    other = derangement(num_rows)
    assert sorted(other.tolist()) == list(range(num_rows))
    assert (other != np.arange(num_rows)).all()


KINDS = {
    "joint": {},
    "separate": {"decoder": {"sharing": "separate"}},
    "text first": {"decoder": {"order": "text_first"}},
    "caption": {"objective": {"name": "caption"}},
    "cappa": {"objective": {"name": "cappa"}},
}


@torch.no_grad()
def greedy_without_cache(model, image, num_tokens):
    """Read the whole sequence again for each token."""
    token_BT = torch.empty((len(image), 0), dtype=torch.int64)
    for _ in range(num_tokens):
        text_len_B = torch.full((len(image),), token_BT.shape[1])
        text_BSE = model.decoder(model.encoder(image), token_BT, text_len_B)[1]
        token_BT = torch.cat([token_BT, model.decoder.text_head(text_BSE[:, -1:]).argmax(dim=-1)], dim=1)
    return token_BT


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_captions_with_and_without_the_cache_agree(variant, kind):
    run = variant(**kind)
    image = run.image[:4]
    written = greedy(run.model, image, 11)
    assert torch.equal(written, greedy_without_cache(run.model, image, 11))
    one, other = (logits(run.model, image, written) for logits in (logits_with_cache, logits_without_cache))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    check = by_name(run)[CACHE]
    assert check.verdict == "PASS"
    assert check.found.startswith("32 of 32 greedy captions")


def test_cache_that_forgets_fails(small, broken):
    def forget(extend, token_B, cache):
        for layer in cache.layers:
            layer[:] = [tensor[:, :, 1:] for tensor in layer]
        return extend(token_B, cache)

    assert by_name(broken(small, "decoder", "extend", forget))[CACHE].verdict == "FAIL"


def test_positions_one_off_in_the_cache_fail(small, broken):
    def shifted(extend, token_B, cache):
        cache.num_tokens += cache.num_tokens == 0
        return extend(token_B, cache)

    assert by_name(broken(small, "decoder", "extend", shifted))[CACHE].verdict == "FAIL"


def test_writer_that_does_not_take_the_likeliest_token_fails(small):
    def second_choice(model, image, num_tokens):
        written = greedy(model, image, num_tokens)
        written[0, 2] = (written[0, 2] + 1) % 512
        return written

    check = by_name(small, write=second_choice)[CACHE]
    assert check.verdict == "FAIL"
    assert check.found.startswith("31 of 32 greedy captions")


def test_shown_captions_are_as_long_as_the_reference(small):
    nats_N = caption_nats(small, small.model, small.pairs.dense)
    for caption in captions(small, ROWS).shown:
        count = int(small.pairs.dense.supervised_NT[caption.row].sum())
        written = greedy(small.model, small.image[ROWS], 11)[caption.row, :count]
        assert caption.greedy == small.tokenizer.decode(written.tolist())
        assert caption.perplexity == pytest.approx(math.exp(nats_N[caption.row] / count))


def test_captions_end_by_themselves_if_end_of_text_is_supervised(variant):
    run = variant(objective={"supervise_eos": True})
    decoder, end_id = run.model.decoder, run.tokenizer.end_id
    decoder.norm = torch.nn.LayerNorm(32)  # its output, all ones, makes the head's rows the logits
    torch.nn.init.zeros_(decoder.norm.weight)
    torch.nn.init.ones_(decoder.norm.bias)
    torch.nn.init.zeros_(decoder.text_head.weight)
    torch.nn.init.ones_(decoder.text_head.weight[end_id])
    for caption in captions(run, ROWS).shown:
        assert caption.greedy == caption.beam == caption.nucleus == ""
    torch.nn.init.constant_(decoder.text_head.weight[40], 2)
    for caption in captions(run, ROWS).shown:
        assert caption.greedy == caption.beam == caption.nucleus == run.tokenizer.decode([40] * 11)


def test_image_check_is_not_applicable_to_a_text_first_decoder(variant):
    check = by_name(variant(decoder={"order": "text_first"}))[IMAGE]
    assert check.verdict == "NOT APPLICABLE"
