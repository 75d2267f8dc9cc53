"""Prepared captions against the definition of their parts, word by word."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import RunFailedError
from aimv2.data.sources.scene import Caption
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import centred_images
from aimv2.datasets.open import open_source
from aimv2.evaluation.held_out import (
    CLASSES,
    Captions,
    Words,
    network_inputs,
    other_images,
    prepare_captions,
    prepare_pairs,
    read_pairs,
)
from tests.helpers.own_data import pictured_source

TEXTS = ["two on mint red rocket below teal star"] * 3
CAPTION = Caption(
    ("two", "on", "mint", "red", "rocketship", "below"), ("count", "other", "other", "ink", "object", "relation")
)


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer that knows ``rocket`` and spells other words."""
    return CaptionTokenizer.train(TEXTS, vocab_size=300)


@pytest.mark.parametrize("supervise_eos", [False, True])
@pytest.mark.parametrize("max_tokens", [6, 40])
def test_token_has_the_class_of_its_word(tokenizer, max_tokens, supervise_eos):
    prepared = prepare_captions([CAPTION, Caption((), ())], Words(tokenizer, max_tokens, supervise_eos))
    expected = []
    for word, name in zip(*CAPTION, strict=True):
        tokens = tokenizer.encode([word], 40)[0]
        expected += [name] * int((tokens != tokenizer.end_id).sum())
    expected = expected[: max_tokens - 1]
    found = [CLASSES[number] for number in prepared.class_NT[0].tolist()]
    assert found == expected + ["other"] * (max_tokens - len(expected))
    assert {CLASSES[number] for number in prepared.class_NT[1].tolist()} == {"other"}
    for name in CLASSES:
        chosen = [found[place] == name and place < len(expected) + supervise_eos for place in range(max_tokens)]
        assert prepared.of_class(name)[0].tolist() == chosen
    content = prepared.of_class("ink", "object")
    assert torch.equal(content, prepared.of_class("ink") | prepared.of_class("object"))


def test_pairs_have_their_own_captions_images_and_items(tiny, pairs):
    held_out = pairs.held_out.subset(9)
    rows = np.arange(9)
    prepared = prepare_pairs(held_out, Words.of(pairs.tokenizer, tiny))
    assert len(prepared) == 9
    assert np.array_equal(prepared.images, held_out.images(rows))
    assert np.array_equal(prepared.item_N, held_out.items(rows))
    for kind in ("short", "dense"):
        texts = [caption.text for caption in held_out.captions(rows, kind)]
        captions = getattr(prepared, kind)
        assert captions.token_NT.tolist() == pairs.tokenizer.encode(texts, 12).tolist()
        assert captions.num_bytes_N.tolist() == pairs.tokenizer.num_bytes(texts, 12).tolist()
    few = prepared.first(4)
    assert len(few) == 4
    assert torch.equal(few.dense.class_NT, prepared.dense.class_NT[:4])
    assert len(prepared.first(100)) == 9


def captions_of(labels):
    token_NT = torch.tensor(labels, dtype=torch.int64)[:, None]
    return Captions(token_NT, token_NT > 0, token_NT, token_NT[:, 0], token_NT.numpy())


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_other_image_is_that_of_the_next_pair_with_another_caption(labels):
    found = other_images(captions_of(labels)).tolist()
    for row, label in enumerate(labels):
        following = [(row + shift) % len(labels) for shift in range(1, len(labels))]
        different = [other for other in following if labels[other] != label]
        assert found[row] == (different[0] if different else row)


def test_scenes_are_shown_whole_and_glyphs_are_cropped(tiny, pairs):
    images = pairs.held_out.images(np.arange(3))
    glyphs = replace(tiny, data=replace(tiny.data, sources=("fontawesome",)))
    assert torch.equal(network_inputs(images, tiny), centred_images(images, 16, 1.0))
    assert torch.equal(network_inputs(images, glyphs), centred_images(images, 16))


def test_held_out_pairs_that_cannot_be_used_are_left_out_or_named(tmp_path, tiny):
    path = pictured_source(tmp_path / "pictures", bad={4: "image", 9: "caption"})
    config = replace(tiny.data, sources=(str(path),))
    held_out = open_source(str(path), config).held_out
    row_N, images, captions = read_pairs(held_out, max_bad_rate=0.5)
    assert held_out.keys(row_N) == [f"{number:02}.png" for number in (14, 19, 24, 29, 34, 39)]
    assert len(images) == len(captions["short"]) == 6
    with pytest.raises(RunFailedError, match=r"2 of 8 held-out pairs are bad .*; the first are 04.png, 09.png$"):
        read_pairs(held_out, max_bad_rate=0.1)
