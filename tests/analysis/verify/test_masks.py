"""1b: trained and untrained masks hold; broken ones are caught."""

from collections import namedtuple
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from aimv2.model import masks as model_masks
from aimv2.model.decoder import Decoder
from aimv2.model.layers import SelfAttention
from analysis.verify.masks import _first_images, masks


def verdicts(subject):
    return [line.verdict for line in masks(subject)]


def test_the_trained_network_leaks_nothing(small):
    encoder, decoder = masks(small)
    assert encoder.verdict == decoder.verdict == "PASS"
    assert encoder.found.startswith("512 (image, patch) pairs, largest leak 0, 0 expected")  # 32 images, 16 patches
    assert decoder.found.startswith("896 (image, position) pairs, largest leak 0, 0 expected")  # and 12 tokens


KINDS = {
    "causal": {"encoder": {"attention": "causal"}},
    "spiral": {"model": {"patch_order": "spiral"}},
    "random": {"model": {"patch_order": "random"}},
    "some full": {"prefix": {"full_attention": 0.5}},
    "text first": {"decoder": {"order": "text_first"}},
    "separate": {"decoder": {"sharing": "separate"}},
    "image only": {"objective": {"name": "image_only"}},
    "caption": {"objective": {"name": "caption"}},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_of_network_passes(variant, kind):
    assert verdicts(variant(**kind)) == ["PASS", "PASS"]


def test_bidirectional_attention_hides_nothing(variant):
    encoder, decoder = masks(variant(objective={"name": "cappa"}, encoder={"attention": "auto"}))
    assert (encoder.verdict, decoder.verdict) == ("NOT APPLICABLE", "PASS")
    assert "hides nothing" in encoder.found


def test_contrastive_networks_have_no_decoder(variant):
    lines = masks(variant(objective={"name": "clip"}, encoder={"attention": "auto"}))
    assert [line.verdict for line in lines] == ["NOT APPLICABLE", "NOT APPLICABLE"]
    assert "clip has no decoder" in lines[1].found


def test_a_full_mask_in_the_encoder_fails(small, monkeypatch):
    def full(prefix_len_B, num_patches):
        return torch.ones(len(prefix_len_B), 1, num_patches, num_patches, dtype=torch.bool)

    monkeypatch.setattr("aimv2.model.encoder.prefix_mask", full)
    encoder, decoder = masks(small)
    assert encoder.verdict == "FAIL"
    assert "largest leak 0," not in encoder.found
    assert decoder.verdict == "PASS"


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_prefix_one_patch_off_fails(small, monkeypatch, shift):
    def shifted(prefix_len_B, num_patches):
        return model_masks.prefix_mask(prefix_len_B + shift, num_patches)

    monkeypatch.setattr("aimv2.model.encoder.prefix_mask", shifted)
    assert verdicts(small) == ["FAIL", "PASS"]


def test_raster_order_under_another_order_fails(variant, monkeypatch):
    subject = variant(model={"patch_order": "spiral"})
    monkeypatch.setattr("aimv2.model.encoder.in_reading_order", lambda patches, order, grid: patches)
    assert verdicts(subject) == ["FAIL", "PASS"]


def test_an_encoder_that_sees_nothing_fails(variant):
    subject = variant()
    torch.nn.init.zeros_(subject.model.encoder.patch_embed.weight)
    encoder = masks(subject)[0]
    assert encoder.verdict == "FAIL"
    assert "largest leak 0, " in encoder.found
    assert ", 0 expected changes missing" not in encoder.found


def test_a_decoder_that_is_not_causal_fails(small, monkeypatch):
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention",
        lambda q, k, v, attn_mask=None, is_causal=False: attend(q, k, v, attn_mask=attn_mask),
    )
    assert verdicts(small) == ["PASS", "FAIL"]


def test_positions_that_see_only_themselves_fail(small, monkeypatch):
    def own_value(attention, x_BLD, mask=None, *, is_causal=False, cache=None):
        return attention.out(attention.qkv(x_BLD).chunk(3, dim=-1)[2])

    monkeypatch.setattr(SelfAttention, "forward", own_value)
    encoder, decoder = masks(small)
    assert encoder.verdict == decoder.verdict == "FAIL"
    assert "largest leak 0, " in decoder.found


def test_captions_that_patches_do_not_see_fail_with_texts_first(variant, monkeypatch):
    def hides_all_text(text_len_B, num_tokens, num_patches):
        return model_masks.padded_text_mask(torch.zeros_like(text_len_B), num_tokens, num_patches)

    subject = variant(decoder={"order": "text_first"})
    monkeypatch.setattr("aimv2.model.decoder.padded_text_mask", hides_all_text)
    decoder = masks(subject)[1]
    assert decoder.verdict == "FAIL"
    assert "largest leak 0, " in decoder.found


def test_parallel_captions_that_do_not_see_the_image_fail(variant, monkeypatch):
    def text_alone(is_parallel_B, num_tokens, num_patches):
        mask = model_masks.parallel_text_mask(is_parallel_B, num_tokens, num_patches).clone()
        mask[:, :, num_patches:, :num_patches] = False
        return mask

    subject = variant(objective={"name": "cappa"}, encoder={"attention": "auto"})
    monkeypatch.setattr("aimv2.model.decoder.parallel_text_mask", text_alone)
    decoder = masks(subject)[1]
    assert decoder.verdict == "FAIL"
    assert "largest leak 0, " in decoder.found


def test_only_what_is_read_of_a_batch_is_kept_and_it_is_found_by_name(batch):
    values = batch._asdict()
    backwards = namedtuple("Backwards", list(values)[::-1])(**values)
    few = _first_images(backwards, "cpu")._asdict()
    assert few.keys() == {"image", "token_BT", "prefix_len_B", "text_len_B"}
    assert all(torch.equal(value, values[name][:4]) for name, value in few.items())


def test_padding_that_reaches_patches_fails(variant, monkeypatch):
    def plain(text_len_B, num_tokens, num_patches):
        length = 1 + num_tokens + num_patches
        return torch.ones(length, length, dtype=torch.bool).tril().expand(len(text_len_B), 1, -1, -1)

    subject = variant(decoder={"order": "text_first"})
    monkeypatch.setattr("aimv2.model.decoder.padded_text_mask", plain)
    assert verdicts(subject) == ["PASS", "FAIL"]


def test_a_parallel_caption_that_shows_its_tokens_fails(variant, monkeypatch):
    subject = variant(objective={"name": "cappa"}, encoder={"attention": "auto"})
    other_name = replace(subject.config.objective, name="caption")  # what matters is what the network can do
    subject = replace(subject, config=replace(subject.config, objective=other_name))
    read = Decoder._text
    monkeypatch.setattr(Decoder, "_text", lambda decoder, token_BT, is_parallel_B=None: read(decoder, token_BT))
    assert verdicts(subject)[1] == "FAIL"


def test_weights_that_are_not_finite_fail(variant):
    subject = variant()
    torch.nn.init.constant_(subject.model.encoder.norm.weight, torch.nan)
    assert verdicts(subject) == ["FAIL", "FAIL"]
