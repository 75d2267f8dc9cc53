"""What a run costs, in closed form. A multiply and an add are 2 FLOPs; norms, activations and softmax are left out.

Letters: D encoder width, E decoder width, P values in a patch.
"""

from dataclasses import dataclass

from aimv2.config import ModelConfig, RunConfig, TransformerConfig

BACKWARD_PER_FORWARD = 2  # a gradient for the weights and one for the inputs


@dataclass(frozen=True)
class ForwardFlops:
    """FLOPs of one forward pass, dense attention (a mask saves nothing here)."""

    encoder_per_image: int
    decoder_per_image: int
    pixel_head_per_image: int
    text_head_per_token: int

    def total(self, num_images: int, num_supervised_tokens: int) -> int:
        per_image = self.encoder_per_image + self.decoder_per_image + self.pixel_head_per_image
        return num_images * per_image + num_supervised_tokens * self.text_head_per_token


def forward_flops(model: ModelConfig) -> ForwardFlops:
    """The parts of a pre-training forward pass. Only supervised tokens meet the vocabulary."""
    patches, D, E = model.num_patches, model.encoder.width, model.decoder.width
    patch_embed = 2 * patches * model.patch_dim * D
    image_proj = 2 * patches * D * E
    return ForwardFlops(
        encoder_per_image=patch_embed + _blocks(model.encoder, patches),
        decoder_per_image=image_proj + _blocks(model.decoder, patches + 1 + model.max_text_tokens),
        pixel_head_per_image=2 * patches * E * model.patch_dim,
        text_head_per_token=2 * E * model.vocab_size,
    )


def train_flops(model: ModelConfig, num_images: int, num_supervised_tokens: int) -> int:
    """Forward and backward."""
    return (1 + BACKWARD_PER_FORWARD) * forward_flops(model).total(num_images, num_supervised_tokens)


def max_train_flops(config: RunConfig) -> int:
    """Training FLOPs of a run if every caption filled its T tokens: what can be said before the captions are read."""
    samples = config.budget.samples
    return train_flops(config.model, samples, samples * config.model.max_text_tokens)


def num_parameters(model: ModelConfig) -> dict[str, int]:
    """Parameters of the encoder and of the decoder with its heads."""
    D, E, P = model.encoder.width, model.decoder.width, model.patch_dim
    encoder = P * D + D + D + model.num_patches * D + _block_parameters(model.encoder) + D
    text = model.vocab_size * E + E + (1 + model.max_text_tokens) * E
    heads = E * P + E * model.vocab_size
    return {"encoder": encoder, "decoder": D * E + E + text + _block_parameters(model.decoder) + E + heads}


def _blocks(config: TransformerConfig, length: int) -> int:
    projections = 4 * config.width**2 + 3 * config.width * config.ffn_hidden
    attention = 2 * length * config.width  # scores and mixing, per position
    return 2 * config.depth * length * (projections + attention)


def _block_parameters(config: TransformerConfig) -> int:
    return config.depth * (4 * config.width**2 + 3 * config.width * config.ffn_hidden + 2 * config.width)
