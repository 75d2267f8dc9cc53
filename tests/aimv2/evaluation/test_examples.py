"""Written captions against full passes without a cache."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from aimv2.evaluation.evaluate import examples, greedy
from aimv2.evaluation.held_out import Words, network_inputs, prepare_captions, read_pairs
from aimv2.objectives.build import build

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


@torch.no_grad()
def next_logits(model, image, token_BT):
    """Return the decoder's logits of the next token, [B, V], from one pass without a cache."""
    text_len_B = torch.full((len(image),), token_BT.shape[1])
    _, text_BSE = model(image, token_BT, None, text_len_B)
    return model.decoder.text_head(text_BSE[:, -1])


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


@pytest.mark.parametrize("stops", [False, True])
def test_examples_have_the_reference_and_the_models_caption(tiny, pairs, stops):
    """A caption of a model that does not learn to stop is as long as the true one."""
    config = replace(tiny, objective=replace(tiny.objective, supervise_eos=stops))
    model, held_out = opinionated(config), pairs.held_out.subset(3)
    shown = examples(model, held_out, pairs.tokenizer, config)
    _, images, captions = read_pairs(held_out, max_bad_rate=1.0)
    length_N = prepare_captions(captions["dense"], Words.of(pairs.tokenizer, config)).supervised_NT.sum(dim=1)
    tokens = greedy(model, network_inputs(images, config), config.model.max_text_tokens - 1)
    assert [example["written"] for example in shown] == [
        pairs.tokenizer.decode(token_T[: None if stops else length].tolist())
        for token_T, length in zip(tokens, length_N, strict=True)
    ]
    rows = np.arange(3)
    assert [example["reference"] for example in shown] == [c.text for c in held_out.captions(rows, "dense")]
    assert [example["key"] for example in shown] == held_out.keys(rows)
    assert all(set(example) == {"key", "reference", "written", "png"} for example in shown)
    assert examples(model, held_out.subset(0), pairs.tokenizer, config) == []
