from dataclasses import replace

import pytest
import torch

from aimv2.objectives.build import build


@torch.no_grad()
def test_no_position_sees_a_later_patch_or_token(tiny, images, tokens):
    model = build(tiny)
    features = model.encoder(images)
    image_before, text_before = model.decoder(features, tokens)
    for patch in range(tiny.model.num_patches):
        changed = features.clone()
        changed[:, patch] += 1
        image_after, text_after = model.decoder(changed, tokens)
        assert torch.equal(image_before[:, :patch], image_after[:, :patch])
        assert (image_before[:, patch] != image_after[:, patch]).any(dim=-1).all()
        assert (text_before != text_after).any(dim=-1).all(), "captions see the whole image"
    for position in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % tiny.model.vocab_size
        image_after, text_after = model.decoder(features, changed)
        assert torch.equal(image_before, image_after)
        # Text position t (BOS is 0) predicts token t and reads the tokens before it.
        assert torch.equal(text_before[:, : position + 1], text_after[:, : position + 1])
        assert (text_before[:, position + 1] != text_after[:, position + 1]).any(dim=-1).all()


def with_decoder(config, objective="aimv2", **changes):
    model = replace(config.model, decoder=replace(config.model.decoder, **changes))
    return replace(config, model=model, objective=replace(config.objective, name=objective))


@torch.no_grad()
def test_text_first_shows_patches_the_caption_without_its_padding(tiny, images, batch):
    model = build(with_decoder(tiny, order="text_first"))
    features, tokens, lengths = model.encoder(images), batch.token_BT, batch.text_len_B
    image_before, text_before = model.decoder(features, tokens, lengths)
    assert image_before.shape == (6, 16, 32)
    assert text_before.shape == (6, 13, 32)
    for patch in range(16):
        changed = features.clone()
        changed[:, patch] += 1
        image_after, text_after = model.decoder(changed, tokens, lengths)
        assert torch.equal(text_before, text_after)
        assert torch.equal(image_before[:, :patch], image_after[:, :patch])
        assert (image_before[:, patch] != image_after[:, patch]).any(dim=-1).all()
    for position in range(12):
        changed = tokens.clone()
        changed[:, position] = 7
        image_after, text_after = model.decoder(features, changed, lengths)
        assert torch.equal(text_before[:, : position + 1], text_after[:, : position + 1])
        for row, length in enumerate(lengths.tolist()):
            reached = (image_before[row] != image_after[row]).any(dim=-1)
            assert reached.all() if position < length and changed[row, position] != tokens[row, position] else True
            assert not reached.any() if position >= length else True


@torch.no_grad()
def test_image_positions_distinguish_equal_features_and_are_off_by_default(tiny, images, tokens):
    model = build(with_decoder(tiny, image_positions=True))
    features = model.encoder(images)[:, :1].expand(-1, 16, -1)
    image, _ = model.decoder(features, tokens)
    assert not torch.allclose(image, image[:, :1].expand_as(image), atol=1e-3)
    # With zero positions it is the plain decoder.
    plain = build(tiny)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "image_pos" not in k})
    model.decoder.image_pos_embed.zero_()
    found = plain.decoder(features, tokens)
    torch.testing.assert_close(found[0], found[0][:, :1].expand_as(image))
    torch.testing.assert_close(model.decoder(features, tokens), found)


@torch.no_grad()
def test_separate_decoders_are_two_joint_ones(tiny, images, tokens):
    model, joint = build(with_decoder(tiny, sharing="separate")), build(tiny)
    pixels, text = model.decoder.pixels, model.decoder.tokens
    assert not pixels.reads_text
    size = [sum(p.numel() for p in decoder.blocks.parameters()) for decoder in (pixels, text, joint.decoder)]
    assert size[0] == size[1] == size[2]
    features = model.encoder(images)
    image_BIE, text_BSE = model.decoder(features, tokens)
    # With the weights of either, the joint decoder gives the same output.
    common = joint.decoder.state_dict()
    for part in (pixels, text):
        joint.decoder.load_state_dict(common | part.state_dict())
        expected = joint.decoder(features, tokens)[part is text]
        torch.testing.assert_close(text_BSE if part is text else image_BIE, expected)


@torch.no_grad()
def test_parallel_captions_are_predicted_from_the_image_alone(tiny, images, tokens):
    model = build(with_decoder(tiny, "cappa"))
    features = model.encoder(images)
    is_parallel = torch.tensor([True, False] * 3)
    _, one = model.decoder(features, tokens, is_parallel_B=is_parallel)
    _, other = model.decoder(features, (tokens + 1) % 512, is_parallel_B=is_parallel)
    assert torch.equal(one[is_parallel], other[is_parallel])
    assert not torch.equal(one[~is_parallel], other[~is_parallel])
    _, written = model.decoder(features, tokens)
    torch.testing.assert_close(one[~is_parallel], written[~is_parallel])
    _, elsewhere = model.decoder(model.encoder(images.flip(0)), tokens, is_parallel_B=is_parallel)
    assert not torch.allclose(one[is_parallel], elsewhere[is_parallel])


@pytest.mark.parametrize("kind", [{}, {"order": "text_first"}, {"image_positions": True}, {"sharing": "separate"}])
def test_image_that_is_read_once_serves_several_captions(tiny, images, tokens, kind):
    config = replace(tiny, model=replace(tiny.model, decoder=replace(tiny.model.decoder, depth=2, **kind)))
    model = build(config)
    image_B, caption_B = torch.tensor([2, 2, 0]), torch.tensor([0, 4, 1])
    with torch.no_grad():
        features = model.encoder(images)
        read = model.decoder.read_image(features)
        found = model.decoder.read_captions(tokens[caption_B], read.rows(image_B))
        text_len_B = torch.full((3,), tokens.shape[1])
        _, expected = model.decoder(features[image_B], tokens[caption_B], text_len_B)
        torch.testing.assert_close(found, expected)
        again = model.decoder.read_captions(tokens[caption_B, :5], read.rows(image_B))
    torch.testing.assert_close(again, expected[:, :6])
