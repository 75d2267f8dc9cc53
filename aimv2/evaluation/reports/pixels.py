"""The report on pixels: the loss of patches after prefixes of fixed lengths."""

from aimv2.config.run_config import RunConfig
from aimv2.evaluation.features import Encoded
from aimv2.evaluation.held_out import HeldOutPairs
from aimv2.evaluation.losses import pixel_errors
from aimv2.evaluation.parts import Measured
from aimv2.evaluation.prepare import Prepared
from aimv2.model.network import EncoderDecoder
from aimv2.spec.items import Items
from aimv2.spec.metrics import pixel_losses


def measure(model: EncoderDecoder, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    """Return the metrics of the report, by name."""
    config = encoded.config
    some = prepared.held_out.first(config.evaluation.num_pairs)
    return {
        name: Measured(
            Items.of(some.item_N, pixel_errors(model, some, fraction, config, encoded.world)),
            f"{len(some):,} held-out pairs, prefix {fraction:g} of the image",
        )
        for name, fraction in pixel_losses(config).items()
    }


def curve(model: EncoderDecoder, held_out: HeldOutPairs, config: RunConfig) -> dict[str, float]:
    """Return the loss after half of the image, a point of the held-out curve."""
    return {"held_out_pixel_loss": float(pixel_errors(model, held_out, 0.5, config).mean())}
