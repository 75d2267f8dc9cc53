"""3b to 3d: losses against the evaluation's, writing against broken writing."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.evaluation.captions import greedy
from aimv2.evaluation.losses import caption_loss
from aimv2.model.decoder import Decoder
from aimv2.model.layers import KeyValues
from aimv2.model.network import build
from analysis.verify.captions import (
    CACHE_TITLE,
    IMAGE_TITLE,
    UNIGRAM_TITLE,
    caption_nats,
    captions,
    derangement,
    greedy_without_cache,
    logits_with_cache,
    logits_without_cache,
    unigram,
)

ROWS = np.arange(3)


def by_title(subject):
    return {line.title: line for line in captions(subject, ROWS).lines}


def test_the_trained_run_passes(subject):
    found = captions(subject, ROWS)
    assert [(line.number, line.verdict) for line in found.lines] == [
        ("3b", "PASS"),
        ("3b", "PASS"),
        ("3c", "PASS"),
        ("3d", "SHOWN"),
    ]


def test_random_weights_know_no_captions(subject):
    lines = by_title(replace(subject, model=build(subject.config).eval()))
    assert lines[UNIGRAM_TITLE].verdict == "FAIL"
    assert lines[IMAGE_TITLE].verdict == "FAIL"
    assert lines[CACHE_TITLE].verdict == "PASS", "writing is right whatever is written"


def test_a_network_that_ignores_images_fails(subject, monkeypatch):
    encoder = subject.model.encoder
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda image, prefix_len_B=None: 0 * forward(image, prefix_len_B))
    lines = by_title(subject)
    assert lines[IMAGE_TITLE].verdict == "FAIL"
    assert "difference +0.000 [+0.000, +0.000]" in lines[IMAGE_TITLE].found


def test_nats_sum_to_the_evaluations_loss(small):
    nats_N = caption_nats(small, small.model, small.names)
    expected = caption_loss(small.model, small.names, small.config)
    assert nats_N.sum() == pytest.approx(expected.nats, rel=1e-6)
    one = replace(small, held_out=small.held_out.subset(1))
    row = int(small.held_out.table["sample_id"].argmin())
    assert caption_nats(one, one.model, one.names)[0] == pytest.approx(nats_N[row], rel=1e-4)


@pytest.mark.parametrize("kind", ["name", "description"])
def test_the_unigram_counts_tokens_of_training_captions(small, kind):
    count = Counter()
    for name in small.train.table[kind]:
        tokens = small.tokenizer.encode([name], 12)[0].tolist()
        count.update(token for token in tokens if token != small.tokenizer.end_id)
    total = sum(count.values()) + small.tokenizer.vocab_size
    expected = [math.log((count[token] + 1) / total) for token in range(small.tokenizer.vocab_size)]
    found = unigram(small.train, kind, small.tokenizer, max_tokens=12, supervise_eos=False)
    assert found == pytest.approx(np.array(expected))
    assert np.exp(found).sum() == pytest.approx(1)


@pytest.mark.parametrize("num_rows", [2, 3, 512])
def test_a_derangement_gives_everyone_another(num_rows):
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


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_with_and_without_the_cache_agree(variant, kind):
    subject = variant(**kind)
    image = subject.names.image[:4]
    written = greedy(subject.model, image, 11)
    assert torch.equal(written, greedy_without_cache(subject.model, image, 11))
    one, other = (logits(subject.model, image, written) for logits in (logits_with_cache, logits_without_cache))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert by_title(subject)[CACHE_TITLE].verdict == "PASS"


def test_a_cache_that_forgets_fails(small, monkeypatch):
    extend = KeyValues.extend

    def forget(cache, key, value):
        if cache.key is not None:
            cache.key, cache.value = cache.key[:, :, 1:], cache.value[:, :, 1:]
        return extend(cache, key, value)

    monkeypatch.setattr(KeyValues, "extend", forget)
    assert by_title(small)[CACHE_TITLE].verdict == "FAIL"


def test_positions_one_off_in_the_cache_fail(small, monkeypatch):
    extend = Decoder.extend

    def shifted(decoder, token_B, cache):
        cache.num_tokens += cache.num_tokens == 0
        return extend(decoder, token_B, cache)

    monkeypatch.setattr(Decoder, "extend", shifted)
    assert by_title(small)[CACHE_TITLE].verdict == "FAIL"


def test_a_writer_that_does_not_take_the_likeliest_token_fails(small, monkeypatch):
    def second_choice(model, image, num_tokens):
        written = greedy(model, image, num_tokens)
        written[0, 2] = (written[0, 2] + 1) % 512
        return written

    monkeypatch.setattr("analysis.verify.captions.greedy", second_choice)
    assert by_title(small)[CACHE_TITLE].verdict == "FAIL"


def test_shown_captions_are_as_long_as_the_reference(small):
    nats_N = caption_nats(small, small.model, small.names)
    for caption in captions(small, ROWS).shown:
        count = int(small.names.supervised_NT[caption.row].sum())
        written = greedy(small.model, small.names.image[ROWS], 11)[caption.row, :count]
        assert caption.greedy == small.tokenizer.decode(written.tolist())
        assert caption.perplexity == pytest.approx(math.exp(nats_N[caption.row] / count))


def test_with_end_of_text_supervised_captions_end_by_themselves(variant):
    subject = variant(objective={"supervise_eos": True})
    decoder, end_id = subject.model.decoder, subject.tokenizer.end_id
    decoder.norm = torch.nn.LayerNorm(32)  # its output, all ones, makes the head's rows the logits
    torch.nn.init.zeros_(decoder.norm.weight)
    torch.nn.init.ones_(decoder.norm.bias)
    torch.nn.init.zeros_(decoder.text_head.weight)
    torch.nn.init.ones_(decoder.text_head.weight[end_id])
    for caption in captions(subject, ROWS).shown:
        assert caption.greedy == caption.beam == caption.nucleus == ""
    torch.nn.init.constant_(decoder.text_head.weight[40], 2)
    for caption in captions(subject, ROWS).shown:
        assert caption.greedy == caption.beam == caption.nucleus == subject.tokenizer.decode([40] * 11)


def test_a_text_first_decoder_cannot_use_the_image(variant):
    line = by_title(variant(decoder={"order": "text_first"}))[IMAGE_TITLE]
    assert line.verdict == "NOT APPLICABLE"


@pytest.mark.parametrize("name", ["image_only", "clip"])
def test_objectives_without_captions_say_so(variant, name):
    found = captions(variant(objective={"name": name}), ROWS)
    assert [line.verdict for line in found.lines] == ["NOT APPLICABLE"] * 4
    assert all(f"{name} writes no captions" in line.found for line in found.lines)
    assert found.shown == []
