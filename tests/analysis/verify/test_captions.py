"""Losses against the evaluation's, writing against broken writing."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.analysis.verify.captions import (
    IMAGE,
    UNIGRAM,
    caption_nats,
    captions,
    derangement,
    unigram,
)
from aimv2.evaluation.features import encode
from aimv2.evaluation.losses import token_nats
from aimv2.evaluation.pictures import greedy
from aimv2.objectives.build import build

ROWS = np.arange(3)


def by_name(run, **options):
    return {check.name: check for check in captions(run, ROWS, **options).checks}


def test_trained_run_passes(run):
    found = captions(run, ROWS)
    assert [check.verdict for check in found.checks] == ["PASS"] * 2
    assert [caption.row for caption in found.shown] == ROWS.tolist()


def test_random_weights_know_no_captions(run):
    checks = by_name(replace(run, model=build(run.config).eval()))
    assert checks[UNIGRAM].verdict == "FAIL"
    assert checks[IMAGE].verdict == "FAIL", "an association by accident is no use of the image"


def test_network_that_ignores_images_fails(run, broken):
    checks = by_name(broken(run, "encoder", "forward", lambda forward, image, *_: 0 * forward(image)))
    assert checks[IMAGE].verdict == "FAIL"
    assert "difference +0.000 (no interval)" in checks[IMAGE].found


def test_nats_sum_to_the_loss_of_the_evaluation(small):
    nats_N = caption_nats(small, small.model, small.pairs.dense)
    features = encode(small.model.encoder, small.pairs.images, small.config)
    expected_NT = token_nats(small.model, features, small.pairs.dense, small.config)
    assert nats_N == pytest.approx(expected_NT.sum(dim=1).numpy(), rel=1e-4)


def test_unigram_counts_tokens_of_training_captions(small):
    count = Counter()
    for caption in small.train.captions(np.arange(len(small.train)), "dense"):
        tokens = small.tokenizer.encode([caption.text], 12)[0].tolist()
        count.update(token for token in tokens if token != small.tokenizer.end_id)
    total = sum(count.values()) + small.tokenizer.vocab_size
    expected = [math.log((count[token] + 1) / total) for token in range(small.tokenizer.vocab_size)]
    found = unigram(small)
    assert found == pytest.approx(np.array(expected))
    assert np.exp(found).sum() == pytest.approx(1)


@pytest.mark.parametrize("num_rows", [2, 3, 512])
def test_derangement_gives_every_row_another(num_rows):
    other = derangement(num_rows)
    assert sorted(other.tolist()) == list(range(num_rows))
    assert (other != np.arange(num_rows)).all()


def test_shown_captions_are_as_long_as_the_reference(small):
    nats_N = caption_nats(small, small.model, small.pairs.dense)
    for caption in captions(small, ROWS).shown:
        count = int(small.pairs.dense.supervised_NT[caption.row].sum())
        written = greedy(small.model, small.image[ROWS], 11)[caption.row, :count]
        assert caption.written == small.tokenizer.decode(written.tolist())
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
        assert caption.written == ""
    torch.nn.init.constant_(decoder.text_head.weight[40], 2)
    for caption in captions(run, ROWS).shown:
        assert caption.written == run.tokenizer.decode([40] * 11)


def test_image_check_is_not_applicable_to_a_text_first_decoder(variant):
    check = by_name(variant(decoder={"order": "text_first"}))[IMAGE]
    assert check.verdict == "NOT APPLICABLE"
