from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from aimv2.evaluation.features import encode
from aimv2.evaluation.held_out import Words, network_inputs, prepare_pairs
from aimv2.evaluation.losses import pixel_errors, token_nats
from aimv2.objectives.build import build
from aimv2.objectives.losses import patchify, standardise

NUM_PAIRS = 21


def variant(config, supervise_eos=False, **decoder):
    model = replace(config.model, decoder=replace(config.model.decoder, **decoder), max_text_tokens=14)
    return replace(config, model=model, objective=replace(config.objective, supervise_eos=supervise_eos))


@pytest.fixture
def prepared(pairs):
    """Return a function that prepares held-out pairs for a config."""
    return lambda config: prepare_pairs(pairs.held_out.subset(NUM_PAIRS), Words.of(pairs.tokenizer, config))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("kind", ["short", "dense"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"supervise_eos": True}, {"order": "text_first"}, {"sharing": "separate"}],
    ids=["joint", "end of text", "text first", "separate"],
)
def test_token_nats_match_a_loop_over_tokens(tiny, prepared, changes, kind, is_causal):
    """Some dense captions are longer than 14 tokens, and are truncated."""
    config = variant(tiny, **changes)
    data, model = prepared(config), build(config)
    captions = getattr(data, kind)
    features = encode(model.encoder, data.images, config, is_causal=is_causal)
    found = token_nats(model, features, captions, config, batch_size=8)  # the last batch is smaller
    expected = torch.zeros(NUM_PAIRS, 14)
    for row in range(NUM_PAIRS):
        image = network_inputs(data.images[row : row + 1], config)
        prefix_len = torch.ones(1, dtype=torch.int64) if is_causal else None
        tokens = captions.token_NT[row : row + 1]
        _, hidden = model(image, tokens, prefix_len, captions.text_len_N[row : row + 1])
        logp = F.log_softmax(model.decoder.text_head(hidden)[0].detach(), dim=-1)
        content = [token for token in tokens[0].tolist() if token != 1]
        for place, token in enumerate(content + [1] * config.objective.supervise_eos):
            expected[row, place] = -logp[place, token]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (kind == "dense") == bool((captions.text_len_N == 14).any())


def test_features_in_half_are_read_as_the_same_values_in_float32(tiny, prepared):
    data, model = prepared(tiny), build(tiny)
    half_NID = encode(model.encoder, data.images, tiny).half()
    found = token_nats(model, half_NID, data.dense, tiny)
    assert torch.equal(found, token_nats(model, half_NID.float(), data.dense, tiny))


def test_other_images_are_given_by_row(tiny, prepared):
    data, model = prepared(tiny), build(tiny)
    features = encode(model.encoder, data.images, tiny)
    other = torch.arange(NUM_PAIRS).roll(5).numpy()
    found = token_nats(model, features, data.dense, tiny, image_of_N=other)
    torch.testing.assert_close(found, token_nats(model, features[other], data.dense, tiny))
    assert not torch.equal(found, token_nats(model, features, data.dense, tiny))


def test_captions_without_a_supervised_token_have_no_loss(tiny, prepared):
    data, model = prepared(tiny), build(tiny)
    features = encode(model.encoder, data.images, tiny)
    nothing = replace(data.dense, supervised_NT=torch.zeros_like(data.dense.supervised_NT))
    assert not token_nats(model, features, nothing, tiny).any()


@pytest.mark.parametrize("fraction", [0.25, 0.5])
@pytest.mark.parametrize("targets", ["standardised", "raw"])
def test_pixel_errors_average_the_patches_after_the_prefix(tiny, prepared, fraction, targets):
    config = replace(tiny, objective=replace(tiny.objective, pixel_targets=targets))
    data, model = prepared(config), build(config)
    length = round(16 * fraction)
    image = network_inputs(data.images, config)
    image_part, _ = model(image, data.short.token_NT, torch.full((NUM_PAIRS,), length))
    predicted = model.decoder.pixel_head(image_part).detach()
    target = patchify(image, config.model.patch_px)
    target = standardise(target) if targets == "standardised" else target
    found = pixel_errors(model, data, fraction, config)
    assert found.shape == (NUM_PAIRS,)
    for row in range(NUM_PAIRS):
        errors = [(predicted[row, place - 1] - target[row, place]).square().mean() for place in range(length, 16)]
        assert found[row] == pytest.approx(float(sum(errors) / len(errors)), rel=1e-5)


def test_pixels_of_a_text_first_decoder_are_predicted_with_the_short_caption(tiny, prepared):
    config = variant(tiny, order="text_first")
    data, model = prepared(config), build(config)
    image, captions = network_inputs(data.images, config), data.short
    image_part, _ = model(image, captions.token_NT, torch.full((NUM_PAIRS,), 8), captions.text_len_N)
    predicted = model.decoder.pixel_head(image_part).detach()
    expected = (predicted[:, 7:15] - standardise(patchify(image, 4))[:, 8:]).square().mean(dim=(1, 2))
    torch.testing.assert_close(torch.from_numpy(pixel_errors(model, data, 0.5, config)).float(), expected)


def test_evaluation_changes_no_weights(tiny, prepared):
    data, model = prepared(tiny), build(tiny)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    token_nats(model, encode(model.encoder, data.images, tiny), data.dense, tiny)
    pixel_errors(model, data, 0.5, tiny)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
