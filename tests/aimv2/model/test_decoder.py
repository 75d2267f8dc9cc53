import torch

from aimv2.model.network import build


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


@torch.no_grad()
def test_image_positions_have_no_embedding_of_their_own(tiny, images, tokens):
    """Equal features give equal outputs at every image position, whatever came before."""
    model = build(tiny)
    features = model.encoder(images)[:, :1].expand(-1, tiny.model.num_patches, -1)
    image, _ = model.decoder(features, tokens)
    torch.testing.assert_close(image, image[:, :1].expand_as(image))


@torch.no_grad()
def test_short_captions_give_the_outputs_of_long_ones(tiny, images, tokens):
    model = build(tiny)
    features = model.encoder(images)
    _, long = model.decoder(features, tokens)
    _, short = model.decoder(features, tokens[:, :3])
    torch.testing.assert_close(short, long[:, :4])
