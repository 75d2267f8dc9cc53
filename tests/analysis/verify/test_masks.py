"""Trained and untrained masks hold; broken ones are caught."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from aimv2.analysis.verify.masks import masks
from aimv2.model.layers import SelfAttention

CAPPA = {"objective": {"name": "cappa"}, "encoder": {"attention": "auto"}}


def verdicts(run):
    return [check.verdict for check in masks(run)]


def test_trained_network_leaks_nothing(small):
    encoder, decoder = masks(small)
    assert encoder.verdict == decoder.verdict == "PASS"
    assert encoder.found.startswith("512 (image, patch) pairs, largest leak 0, 0 expected")  # 32 images, 16 patches
    assert decoder.found.startswith("896 (image, position) pairs, largest leak 0, 0 expected")  # and 12 tokens


KINDS = {
    "causal": {"encoder": {"attention": "causal"}},
    "spiral": {"model": {"patch_order": "spiral"}},
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
    encoder, decoder = masks(variant(**CAPPA))
    assert (encoder.verdict, decoder.verdict) == ("NOT APPLICABLE", "PASS")
    assert "hides nothing" in encoder.found


def test_contrastive_network_has_no_decoder_to_check(variant):
    checks = masks(variant(objective={"name": "clip"}, encoder={"attention": "auto"}))
    assert [check.verdict for check in checks] == ["NOT APPLICABLE", "NOT APPLICABLE"]
    assert "clip has no decoder" in checks[1].found


def test_full_mask_in_the_encoder_fails(small, broken):
    encoder, decoder = masks(broken(small, "encoder", "forward", lambda forward, image, prefix_len_B: forward(image)))
    assert encoder.verdict == "FAIL"
    assert "largest leak 0," not in encoder.found
    assert decoder.verdict == "PASS"


@pytest.mark.parametrize("shift", [-1, 1])
def test_prefix_one_patch_off_fails(small, broken, shift):
    run = broken(small, "encoder", "forward", lambda forward, image, prefix_len_B: forward(image, prefix_len_B + shift))
    assert verdicts(run) == ["FAIL", "PASS"]


def test_raster_order_in_place_of_another_fails(variant):
    run = variant(model={"patch_order": "spiral"})
    run.model.encoder.patch_order = "raster"
    assert verdicts(run) == ["FAIL", "PASS"]


def test_encoder_that_sees_nothing_fails(variant):
    run = variant()
    torch.nn.init.zeros_(run.model.encoder.patch_embed.weight)
    encoder = masks(run)[0]
    assert encoder.verdict == "FAIL"
    assert "largest leak 0, " in encoder.found
    assert ", 0 expected changes missing" not in encoder.found


def test_decoder_that_is_not_causal_fails(small, monkeypatch):
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention",
        lambda q, k, v, attn_mask=None, is_causal=False: attend(q, k, v, attn_mask=attn_mask),
    )
    assert verdicts(small) == ["PASS", "FAIL"]


def test_positions_that_see_only_themselves_fail(small):
    def own_value(attention, x_BLD, mask=None, *, is_causal=False, cache=None):
        return attention.out(attention.qkv(x_BLD).chunk(3, dim=-1)[2])

    model = copy.deepcopy(small.model)
    for module in model.modules():
        if isinstance(module, SelfAttention):
            module.forward = partial(own_value, module)
    encoder, decoder = masks(replace(small, model=model))
    assert encoder.verdict == decoder.verdict == "FAIL"
    assert "largest leak 0, " in decoder.found


def test_captions_hidden_from_patches_fail_with_texts_first(variant, broken):
    def hide_all_text(forward, features, tokens, text_len_B):
        return forward(features, tokens, torch.zeros_like(text_len_B))

    decoder = masks(broken(variant(decoder={"order": "text_first"}), "decoder", "forward", hide_all_text))[1]
    assert decoder.verdict == "FAIL"
    assert "largest leak 0, " in decoder.found


def test_padding_that_reaches_patches_fails(variant, broken):
    def show_all_text(forward, features, tokens, text_len_B):
        return forward(features, tokens, torch.full_like(text_len_B, tokens.shape[1]))

    run = broken(variant(decoder={"order": "text_first"}), "decoder", "forward", show_all_text)
    assert verdicts(run) == ["PASS", "FAIL"]


def test_parallel_captions_that_do_not_see_the_image_fail(variant, broken):
    def text_alone(forward, features, tokens, text_len_B, is_parallel_B=None):
        image, text = forward(features, tokens, text_len_B, is_parallel_B=is_parallel_B)
        if is_parallel_B is not None:
            text = forward(torch.zeros_like(features), tokens, text_len_B, is_parallel_B=is_parallel_B)[1]
        return image, text

    decoder = masks(broken(variant(**CAPPA), "decoder", "forward", text_alone))[1]
    assert decoder.verdict == "FAIL"
    assert "largest leak 0, " in decoder.found


def test_parallel_caption_that_shows_its_tokens_fails(variant, broken):
    run = variant(**CAPPA)
    other_name = replace(run.config.objective, name="caption")  # what the network can do matters, not the name
    run = replace(run, config=replace(run.config, objective=other_name))
    run = broken(run, "decoder", "_text", lambda read, token_BT, is_parallel_B=None: read(token_BT))
    assert verdicts(run)[1] == "FAIL"


def test_weights_that_are_not_finite_fail(variant):
    run = variant()
    torch.nn.init.constant_(run.model.encoder.norm.weight, torch.nan)
    assert verdicts(run) == ["FAIL", "FAIL"]
