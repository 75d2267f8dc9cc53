"""One training step against what Apple's released training code computes (``tests/golden/README.md``)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from aimv2.config.model_config import DecoderConfig, EncoderConfig, ModelConfig
from aimv2.config.recipes.scales import demo
from aimv2.data.batches.batch import Batch
from aimv2.definitions.objectives import objective
from aimv2.model.network import EncoderDecoder
from aimv2.objectives.build import implementation_of
from tests.helpers.objectives import with_objective
from tests.helpers.training import losses_of

GOLDEN = Path(__file__).parents[1] / "golden" / "aimv2_tiny.safetensors"
END_OF_TEXT = 1


def read_golden(dtype):
    with safe_open(GOLDEN, framework="pt") as file:
        sizes = json.loads(file.metadata()["config"])
    read = load_file(GOLDEN)
    tensors = {key: value.to(dtype) if value.is_floating_point() else value for key, value in read.items()}
    config = ModelConfig(
        encoder=EncoderConfig(width=sizes["d"], depth=sizes["L"], num_heads=sizes["h"], attention="prefix"),
        decoder=DecoderConfig(width=sizes["dd"], depth=sizes["dL"], num_heads=sizes["dh"]),
        image_px=sizes["img"],
        patch_px=sizes["p"],
        vocab_size=sizes["V"],
        max_text_tokens=sizes["T"],
    )
    return config, tensors


def fused(named):
    """The golden file's separate projections under our names, where some are one matrix."""
    state = {}
    for name, value in named.items():
        if ".attn.q." in name or ".ffn.gate." in name:
            parts = ("q", "k", "v") if ".attn.q." in name else ("gate", "up")
            whole = "qkv" if len(parts) == 3 else "gate_up"
            stem, end = name.rsplit(f".{parts[0]}.", 1)
            state[f"{stem}.{whole}.{end}"] = torch.cat([named[f"{stem}.{part}.{end}"] for part in parts])
        elif not any(part in name for part in (".attn.k.", ".attn.v.", ".ffn.up.")):
            state[name] = value
    return state


def section(tensors, prefix):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def assert_close(actual, expected, tolerance, name):
    error = (actual - expected).norm() / expected.norm()
    assert error <= tolerance, f"{name}: relative error {error:.2e}"


def golden_batch(golden, config):
    tokens, prefix_len = golden["inputs/tokens"], golden["inputs/prefix_len"]
    supervised = (tokens != END_OF_TEXT).flatten().nonzero().squeeze(1)
    text_len = (tokens == END_OF_TEXT).int().argmax(dim=1) + 1
    run = replace(demo(), model=config)
    return Batch.of(golden["inputs/image"], tokens, prefix_len, supervised, text_len, run)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_outputs_losses_and_gradients_match_the_released_code(dtype, tolerance):
    config, golden = read_golden(dtype)
    model = EncoderDecoder(config).to(dtype)
    state = fused(section(golden, "weights/"))
    model.load_state_dict(state, strict=True)
    image, tokens, prefix_len = (golden[f"inputs/{key}"] for key in ("image", "tokens", "prefix_len"))

    features = model.decoder.image_proj(model.encoder(image, prefix_len))
    assert_close(features, golden["outputs/projected_features_prefix"], tolerance, "prefix features")
    assert_close(
        model.decoder.image_proj(model.encoder(image)),
        golden["outputs/projected_features_full"],
        tolerance,
        "full features",
    )
    image_BIE, text_BTE = model(image, tokens, prefix_len)
    assert_close(model.decoder.pixel_head(image_BIE), golden["outputs/pixel_predictions"], tolerance, "pixels")
    assert_close(model.decoder.text_head(text_BTE), golden["outputs/text_logits"], tolerance, "logits")

    total, terms = losses_of(model, golden_batch(golden, config), replace(demo(), model=config))
    assert_close(terms["pixel_loss"], golden["outputs/pixel_loss"], tolerance, "pixel loss")
    assert_close(terms["text_loss"], golden["outputs/text_loss"], tolerance, "text loss")
    assert_close(total, golden["outputs/total_loss"], tolerance, "total loss")

    total.backward()
    gradients = fused(section(golden, "grads/"))
    parameters = dict(model.named_parameters())
    assert gradients.keys() == parameters.keys()
    for name, parameter in parameters.items():
        assert_close(parameter.grad, gradients[name], tolerance, f"gradient of {name}")


def test_caption_and_image_only_match_the_released_codes_terms():
    """Their losses are the golden terms, and their gradients with the golden weighting are the golden gradients."""
    config, golden = read_golden(torch.float64)
    state = fused(section(golden, "weights/"))
    gradients = {}
    for name, term, weight in (("caption", "text_loss", 1.0), ("image_only", "pixel_loss", 0.4)):
        run = with_objective(replace(demo(), model=config), name)
        model = implementation_of(objective(name)).network(run).double()
        own = model.state_dict().keys()
        model.load_state_dict({key: value for key, value in state.items() if key in own}, strict=True)
        total, terms = losses_of(model, golden_batch(golden, config), run)
        assert terms.keys() == {term}
        assert_close(total, golden[f"outputs/{term}"], 1e-6, name)
        total.backward()
        for key, parameter in model.named_parameters():
            gradients[key] = gradients.get(key, 0) + weight * parameter.grad
    expected = fused(section(golden, "grads/"))
    assert gradients.keys() == expected.keys()
    for key, gradient in gradients.items():
        assert_close(gradient, expected[key], 1e-6, f"gradient of {key}")


def test_separate_decoders_with_joint_weights_match_the_released_losses():
    config, golden = read_golden(torch.float64)
    config = replace(config, decoder=replace(config.decoder, sharing="separate"))
    run = replace(demo(), model=config)
    model = implementation_of(objective("aimv2")).network(run).double()
    state = fused(section(golden, "weights/"))
    split = {}
    for key in model.state_dict():
        split[key] = state[key.replace("decoder.pixels.", "decoder.").replace("decoder.tokens.", "decoder.")]
    model.load_state_dict(split, strict=True)
    total, terms = losses_of(model, golden_batch(golden, config), run)
    assert_close(terms["pixel_loss"], golden["outputs/pixel_loss"], 1e-6, "pixel loss")
    assert_close(terms["text_loss"], golden["outputs/text_loss"], 1e-6, "text loss")
    assert_close(total, golden["outputs/total_loss"], 1e-6, "total loss")
