"""A training step has the losses and gradients of a straightforward one on the same weights.

That is written as the paper is read: padded captions, every patch projected to pixels and every position to the
vocabulary, norms and gates as plain formulas, and a bool mask in every layer. One rank, one batch, both terms, image
first; raster order. Letters as in ``aimv2.model`` and ``aimv2.objectives.losses``.
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from aimv2.definitions.objectives import objective
from aimv2.memory.setup import setup_of
from aimv2.objectives.build import build, implementation_of
from aimv2.training.engine import Engine


def rms_norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-5) * weight


def attention(x_BLD, weights, name, num_heads, mask):
    B, L, D = x_BLD.shape
    q, k, v = (
        F.linear(x_BLD, weight).view(B, L, num_heads, D // num_heads).transpose(1, 2)
        for weight in weights[f"{name}.qkv.weight"].chunk(3)
    )
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return F.linear(mixed.transpose(1, 2).reshape(B, L, D), weights[f"{name}.out.weight"])


def ffn(x, weights, name):
    gate, up = (F.linear(x, weight) for weight in weights[f"{name}.gate_up.weight"].chunk(2))
    return F.linear(F.silu(gate) * up, weights[f"{name}.down.weight"])


def stack(x, weights, name, config, mask):
    for number in range(config.depth):
        block = f"{name}.{number}"
        normed = rms_norm(x, weights[f"{block}.norm1.weight"])
        x = x + attention(normed, weights, f"{block}.attn", config.num_heads, mask)
        x = x + ffn(rms_norm(x, weights[f"{block}.norm2.weight"]), weights, f"{block}.ffn")
    return x


def losses(weights, batch, config):
    """Return the pixel and the text loss of a whole batch, with the weights by their names in the network."""
    model = config.model
    patches, patch_px, device = model.num_patches, model.patch_px, batch.image.device

    x = F.conv2d(batch.image, weights["encoder.patch_embed.weight"], weights["encoder.patch_embed.bias"], patch_px)
    x = x.flatten(2).transpose(1, 2)
    x = rms_norm(x, weights["encoder.patch_norm.weight"]) + weights["encoder.pos_embed"]
    pos = torch.arange(patches, device=device)
    mask = (pos[:, None] >= pos) | (pos < batch.prefix_len_B[:, None, None])
    x = stack(x, weights, "encoder.blocks", model.encoder, mask[:, None])
    features = rms_norm(x, weights["encoder.norm.weight"])

    image = F.linear(features, weights["decoder.image_proj.weight"], weights["decoder.image_proj.bias"])
    bos = weights["decoder.bos"].expand(len(image), -1, -1)
    tokens = F.embedding(batch.token_BT, weights["decoder.text_embed.weight"])
    text = torch.cat([bos, tokens], dim=1) + weights["decoder.text_pos_embed"]
    x = torch.cat([image, text], dim=1)
    causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=device).tril()
    x = rms_norm(stack(x, weights, "decoder.blocks", model.decoder, causal), weights["decoder.norm.weight"])

    predicted = F.linear(x[:, : patches - 1], weights["decoder.pixel_head.weight"])
    target = F.unfold(batch.image, patch_px, stride=patch_px).transpose(1, 2)
    # Values of a patch in (row, column, channel) order; unfold has channels first.
    target = target.view(*target.shape[:2], 3, patch_px * patch_px).transpose(2, 3).flatten(2)
    target = (target - target.mean(dim=-1, keepdim=True)) / (target.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    scored = (pos[1:] >= batch.prefix_len_B[:, None]).float()
    pixel = ((predicted - target[:, 1:]).square().mean(dim=-1) * scored).sum() / scored.sum()

    logits = F.linear(x[:, patches:-1], weights["decoder.text_head.weight"]).flatten(0, 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    wanted = torch.full_like(batch.token_BT, -100).flatten()
    wanted[batch.supervised_N] = batch.token_BT.flatten()[batch.supervised_N]
    return pixel, F.cross_entropy(logits, wanted, ignore_index=-100)


def reference_backward(model, batch, config):
    """Compute the gradients of a network's weights, and return the terms of the loss."""
    with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
        pixel, text = losses(dict(model.named_parameters()), batch, config)
    total = text + config.objective.pixel_weight * pixel
    total.backward()
    return {"pixel_loss": pixel.item(), "text_loss": text.item()}


@pytest.mark.parametrize(
    ("dtype", "precision", "tolerance"),
    [(torch.float64, "float32", 1e-9), (torch.float32, "float32", 1e-5), (torch.float32, "bfloat16", 0.03)],
)
def test_steps_have_the_same_losses_and_gradients(tiny, batch, dtype, precision, tolerance):
    config = replace(tiny, precision=precision)
    batch = batch._replace(image=batch.image.to(dtype))
    model = build(config).to(dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight += 0.1 * torch.randn(len(weight), generator=torch.Generator().manual_seed(0))
    found = {}
    for name in ("ours", "reference"):
        model.zero_grad()
        if name == "ours":
            engine = Engine(implementation_of(objective("aimv2"))(model, config), config, setup_of(config))
            terms = {key: float(term) for key, term in engine.backward(engine.micro_batches(batch)).items()}
        else:
            terms = reference_backward(model, batch, config)
        found[name] = terms, {key: weight.grad.clone() for key, weight in model.named_parameters()}
    (ours, gradients), (expected, expected_gradients) = found.values()
    assert ours == pytest.approx(expected, rel=tolerance)
    for name, gradient in expected_gradients.items():
        error = (gradients[name] - gradient).norm() / gradient.norm()
        assert error <= tolerance, f"gradient of {name}: relative error {error:.2e}"
