"""Runs with an objective, and the losses of open_clip."""

from dataclasses import replace

from open_clip.loss import ClipLoss, SigLipLoss


def with_objective(config, name, *, attention="prefix", **values):
    """Return the run with an objective, its values and the encoder's attention."""
    encoder = replace(config.model.encoder, attention=attention)
    model = replace(config.model, encoder=encoder)
    return replace(config, model=model, objective=replace(config.objective, name=name, **values))


def clip_loss(similarity, image_BS, text_BS):
    """Return open_clip's CLIP loss."""
    return ClipLoss()(image_BS, text_BS, similarity.scale)


def siglip_loss(similarity, image_BS, text_BS):
    """Return open_clip's SigLIP loss."""
    return SigLipLoss()(image_BS, text_BS, similarity.scale, similarity.logit_bias)
