from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from aimv2.definitions.objectives import objective
from aimv2.objectives.aimv2 import pixel_targets
from aimv2.objectives.build import build, implementation_of
from aimv2.objectives.losses import patchify, standardise
from tests.helpers.native import AREAS, at_native, batch_of_area, losses_one_by_one
from tests.helpers.objectives import with_objective
from tests.helpers.training import changed, losses_of


def test_text_loss_trains_the_encoder(tiny, batch):
    model = build(tiny)
    losses_of(model, batch, tiny).terms["text_loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert model.decoder.pixel_head.weight.grad is None


@pytest.mark.parametrize("pixel_weight", [0.0, 0.4, 2.0])
def test_total_is_text_plus_weighted_pixels(tiny, batch, pixel_weight):
    config = replace(tiny, objective=replace(tiny.objective, pixel_weight=pixel_weight))
    total, terms = losses_of(build(tiny), batch, config)
    torch.testing.assert_close(total, terms["text_loss"] + pixel_weight * terms["pixel_loss"])


def test_batch_without_a_patch_to_predict_has_text_loss_only(tiny, batch):
    config = replace(tiny, prefix=replace(tiny.prefix, full_attention=0.5))
    supervised, text_len = batch.supervised_N, batch.text_len_B
    full = batch.of(batch.image, batch.token_BT, torch.full((6,), 16), supervised, text_len, config)
    total, terms = losses_of(build(config), full, config)
    assert set(terms) == {"text_loss"}
    assert total is terms["text_loss"]


@pytest.mark.parametrize(("sharing", "is_shared"), [("joint", True), ("separate", False)])
def test_losses_share_the_blocks_of_a_joint_decoder(tiny, sharing, is_shared):
    model = build(changed(tiny, {"model.decoder.sharing": sharing}))
    shared = {id(parameter) for parameter in implementation_of(objective("aimv2"))(model, tiny).shared_parameters()}
    blocks = {id(value) for name, value in model.named_parameters() if name.startswith("decoder.blocks.")}
    assert shared == (blocks if is_shared else set())
    assert bool(blocks) == is_shared


@pytest.mark.parametrize(
    ("name", "term", "missing_head"),
    [("caption", "text_loss", "pixel_head"), ("image_only", "pixel_loss", "text_head")],
)
def test_loss_alone_is_aimv2s_term(tiny, batch, name, term, missing_head):
    config = with_objective(tiny, name)
    model, whole = build(config), build(tiny)
    model.load_state_dict({key: whole.state_dict()[key] for key in model.state_dict()})
    assert not hasattr(model.decoder, missing_head)
    total, terms = losses_of(model, batch, config)
    assert terms == {term: total}
    torch.testing.assert_close(total, losses_of(whole, batch, tiny).terms[term])
    assert implementation_of(objective(name))(model, config).shared_parameters() == []


@pytest.mark.parametrize("name", ["aimv2", "caption"])
def test_text_loss_by_caption_is_the_mean_of_their_means(tiny, batch, name):
    """Oracle: a loop over captions and tokens."""
    config = changed(tiny, {"objective.name": name, "objective.text_tokens": "caption"})
    model = build(config)
    _, hidden = model(batch.image, batch.token_BT, batch.prefix_len_B)
    means = []
    for b, tokens in enumerate(batch.token_BT):
        logits = model.decoder.text_head(hidden[b])
        terms = [-F.log_softmax(logits[t], dim=-1)[token] for t, token in enumerate(tokens) if token != 1]
        means.append(sum(terms) / max(len(terms), 1))
    found = losses_of(model, batch, config).terms["text_loss"]
    torch.testing.assert_close(found, sum(means) / len(means))
    by_batch = losses_of(model, batch, changed(config, {"objective.text_tokens": "batch"})).terms["text_loss"]
    assert not torch.isclose(found, by_batch), "captions differ in length"


@pytest.mark.parametrize("targets", ["raw", "standardised"])
@pytest.mark.parametrize("values", ["mean", "sum"])
@pytest.mark.parametrize("patches", ["batch", "image", "image_mean"])
@pytest.mark.parametrize("prefix_len", [[1, 3, 8, 12, 14, 15], [16, 1, 16, 15, 2, 9]], ids=str)
def test_pixel_loss_covers_the_patches_after_the_prefixes(tiny, batch, prefix_len, patches, values, targets):
    """Oracle: a loop over all images and patches."""
    names = {"patches": patches, "values": values, "targets": targets}
    config = changed(tiny, {f"objective.pixel_{name}": value for name, value in names.items()})
    supervised, text_len = batch.supervised_N, batch.text_len_B
    batch = batch.of(batch.image, batch.token_BT, torch.tensor(prefix_len), supervised, text_len, config)
    model = build(config)
    hidden, _ = model(batch.image, batch.token_BT, batch.prefix_len_B)
    errors = []  # per image, of the patches after its prefix, each predicted from the one before
    for b, length in enumerate(prefix_len):
        target = pixel_targets(batch.image[b : b + 1], config)[0]
        squares = [(model.decoder.pixel_head(hidden[b, i - 1]) - target[i]).square() for i in range(length, 16)]
        errors.append([one.mean() if values == "mean" else one.sum() for one in squares])
    every = [error for of_image in errors for error in of_image]
    means = [sum(of_image) / len(of_image) for of_image in errors if of_image]
    expected = {
        "batch": lambda: sum(every) / len(every),
        "image": lambda: sum(every) / (6 * 16),
        "image_mean": lambda: sum(means) / len(means),
    }[patches]()
    found = losses_of(model, batch, config).terms["pixel_loss"]
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(loss, list(model.encoder.parameters())) for loss in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("order", ["raster", "spiral"])
@pytest.mark.parametrize("targets", ["raw", "standardised"])
def test_pixel_targets_are_patches_in_reading_order(tiny, batch, order, targets):
    config = changed(tiny, {"model.patch_order": order, "objective.pixel_targets": targets})
    expected = patchify(batch.image, config.model.patch_px)
    if targets == "standardised":
        expected = standardise(expected)
    found = pixel_targets(batch.image, config)
    some = torch.tensor([3, 17, 95])
    assert torch.equal(pixel_targets(batch.image, config, some), found.flatten(0, 1)[some])
    if order == "raster":
        torch.testing.assert_close(found, expected)
    else:
        assert not torch.equal(found, expected)
        # The same patches in another order: every target is the closest to one patch.
        place = torch.cdist(found, expected).argmin(dim=2)
        assert (place.sort(dim=1).values == torch.arange(16)).all()
        torch.testing.assert_close(found[0], expected[0, place[0]])


@pytest.fixture(scope="module")
def native(tiny, with_samples):
    return at_native(with_samples(tiny, 320))


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"model.decoder.sharing": "separate"}, {"model.encoder.attention": "causal"}, {"prefix.full_attention": 0.4}],
    ids=str,
)
def test_a_native_batch_has_the_losses_of_its_images_one_by_one(native, pairs, changes, area):
    """Oracle: a loop over the images, each with its own grid and without padding."""
    config = at_native(native, **changes)
    batch, model = batch_of_area(config, pairs, area), build(config).double()
    batch = batch._replace(image=batch.image.double())
    num_own = batch.grid_B2.prod(dim=1)
    assert area == 8 or (num_own < area).any(), "some images have padding"
    assert batch.prefix_len_B.le(num_own).all()
    terms = losses_of(model, batch, config).terms
    text, pixel = losses_one_by_one(model, batch, config)
    torch.testing.assert_close(terms["text_loss"], text, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(terms["pixel_loss"], pixel, rtol=1e-9, atol=1e-9)


def test_padding_changes_nothing(native, pairs):
    batch, model = batch_of_area(native, pairs, 32), build(native)
    total, _ = losses_of(model, batch, native)
    total.backward()
    gradients = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    columns = torch.arange(batch.image.shape[-1]) // 4
    is_padding = columns >= batch.grid_B2.prod(dim=1)[:, None]
    noisy = batch._replace(image=torch.where(is_padding[:, None, None], 5.0, batch.image))
    assert not torch.equal(noisy.image, batch.image)
    again, _ = losses_of(model, noisy, native)
    again.backward()
    assert torch.equal(total, again)
    for weight, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("patches", ["image", "image_mean"])
def test_means_of_images_count_each_images_own_patches(native, pairs, patches):
    config = at_native(native, **{"objective.pixel_patches": patches})
    batch, model = batch_of_area(config, pairs, 32), build(config).double()
    batch = batch._replace(image=batch.image.double())
    means = []
    for row in range(len(batch.image)):
        one = batch._part(slice(row, row + 1), has_padding=True)
        _, mean = losses_one_by_one(model, one, config)
        own, prefix = int(one.grid_B2.prod()), int(one.prefix_len_B)
        means.append(mean * ((own - prefix) / own if patches == "image" else 1))
    found = losses_of(model, batch, config).terms["pixel_loss"]
    torch.testing.assert_close(found, torch.stack(means).mean(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("fraction", "num_parallel"), [(0, 0), (0.25, 2), (0.75, 4), (1, 6)])
def test_cappas_loss_matches_a_loop_over_images(tiny, batch, fraction, num_parallel):
    """Oracle: image by image, with an explicit mask and attention."""
    config = with_objective(tiny, "cappa", attention="bidirectional", parallel_fraction=fraction)
    model = build(config).double()
    batch = batch._replace(image=batch.image.double())
    decoder, nats = model.decoder, []
    for row in range(6):
        is_parallel = row < num_parallel
        image_ID = decoder.image_proj(model.encoder(batch.image[row : row + 1]))[0]
        inputs = [decoder.bos[0, 0], *(decoder.text_embed.weight[token] for token in batch.token_BT[row])]
        if is_parallel:
            inputs = [decoder.mask_token[0, 0]] * 13
        x_LE = torch.cat([image_ID, torch.stack(inputs) + decoder.text_pos_embed])
        for block in decoder.blocks:
            x_LE = x_LE + attend(block.attn, block.norm1(x_LE), is_parallel)
            x_LE = x_LE + block.ffn(block.norm2(x_LE))
        log_prob_SV = F.log_softmax(decoder.text_head(decoder.norm(x_LE)[16:]), dim=-1)
        nats += [-log_prob_SV[t, token] for t, token in enumerate(batch.token_BT[row].tolist()) if token != 1]
    total, terms = losses_of(model, batch, config)
    torch.testing.assert_close(total, torch.stack(nats).mean())
    assert terms == {"text_loss": total}


def attend(attention, x_LE, is_parallel):
    length, width = x_LE.shape
    query, key, value = attention.qkv(x_LE).view(length, 3, 2, width // 2).permute(1, 2, 0, 3)
    mixed = torch.zeros(2, length, width // 2, dtype=x_LE.dtype)
    for q in range(length):
        seen = [k for k in range(length) if k <= q or (is_parallel and q >= 16)]
        for head in range(2):
            weight = torch.softmax(query[head, q] @ key[head, seen].T / (width // 2) ** 0.5, dim=-1)
            mixed[head, q] = weight @ value[head, seen]
    return attention.out(mixed.permute(1, 0, 2).reshape(length, width))
