from dataclasses import replace

import pytest
import torch

from aimv2.objectives.build import build


def states(config, seed):
    return build(replace(config, seed=seed)).state_dict()


def test_networks_share_the_tensors_that_they_have_in_common(tiny):
    """The second lacks the encoder's position table, has one for the decoder, and is a block deeper on both sides."""
    encoder = replace(tiny.model.encoder, positions="sincos", depth=3)
    decoder = replace(tiny.model.decoder, image_positions=True, depth=2)
    first, second = (
        states(tiny, 0),
        states(replace(tiny, model=replace(tiny.model, encoder=encoder, decoder=decoder)), 0),
    )
    assert first.keys() - second.keys() == {"encoder.pos_embed"}
    assert "decoder.image_pos_embed" in second
    common = first.keys() & second.keys()
    differ = {name for name in common if not torch.equal(first[name], second[name])}
    assert differ == {"decoder.pixel_head.weight", "decoder.text_head.weight"}, "their spread depends on the depth"
    for name in differ:
        torch.testing.assert_close(second[name], first[name] * (2 / 3) ** 0.5)


def test_initial_weights_have_the_released_codes_spread(tiny):
    """Standard deviations from the closed forms: Xavier-uniform, torch's default, normal, truncated normal."""
    model = replace(
        tiny.model, encoder=replace(tiny.model.encoder, width=256), decoder=replace(tiny.model.decoder, width=192)
    )
    state = states(replace(tiny, model=model), 0)
    width, hidden, decoder_width, patch_dim = 256, model.encoder.ffn_hidden, 192, model.patch_dim

    def xavier(fan_in, fan_out):
        return (2 / (fan_in + fan_out)) ** 0.5

    expected = {
        "encoder.patch_embed.weight": xavier(patch_dim, width),
        "encoder.patch_embed.bias": (3 * patch_dim) ** -0.5,
        "encoder.pos_embed": 0.02,
        "encoder.blocks.0.attn.qkv.weight": xavier(width, width),
        "encoder.blocks.1.attn.out.weight": xavier(width, width),
        "encoder.blocks.0.ffn.gate_up.weight": xavier(width, hidden),
        "encoder.blocks.0.ffn.down.weight": xavier(width, hidden),
        "decoder.image_proj.weight": (3 * width) ** -0.5,
        "decoder.text_embed.weight": 0.02,
        "decoder.bos": 0.02,
        "decoder.text_pos_embed": 0.01,
        "decoder.pixel_head.weight": (decoder_width * (1 + model.decoder.depth)) ** -0.5,
        "decoder.text_head.weight": (decoder_width * (1 + model.decoder.depth)) ** -0.5,
    }
    for name, std in expected.items():
        sampling_error = 4 * std / (2 * state[name].numel()) ** 0.5
        assert float(state[name].std()) == pytest.approx(std, abs=sampling_error), name
    norms = [name for name in state if "norm" in name]
    assert all((state[name] == 1).all() for name in norms)
    assert all(torch.isfinite(value).all() for value in state.values())
