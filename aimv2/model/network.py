"""The networks of encoder and decoder (paper Figure 1), and the base of all networks."""

from torch import Tensor, nn

from aimv2.config.model_config import ModelConfig
from aimv2.model.decoder import Decoder, SeparateDecoders, Target
from aimv2.model.encoder import Encoder


class Network(nn.Module):
    """An encoder and the parts that an objective trains it with. The parts declare their initial distributions."""

    encoder: Encoder


class EncoderDecoder(Network):
    """An encoder and a decoder that reads its features; with both heads this is AIMv2's network."""

    def __init__(
        self, config: ModelConfig, predicts: tuple[Target, ...] = ("pixels", "tokens"), *, is_parallel: bool = False
    ) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder: Decoder | SeparateDecoders = (
            SeparateDecoders(config)
            if config.decoder.sharing == "separate"
            else Decoder(config, predicts, is_parallel=is_parallel)
        )

    def forward(
        self,
        image: Tensor,
        token_BT: Tensor,
        prefix_len_B: Tensor | None = None,
        text_len_B: Tensor | None = None,
        grid_B2: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the decoder's hidden states: image part [B, I, E] and text part [B, 1+T, E].

        The objective applies the heads, only at positions with a loss.

        Args:
            grid_B2: int64 [B, 2], rows and columns of each image, if ``image`` has strips of patches; parts of a strip
                after the image's own patches have meaningless states.
        """
        features_BID = self.encoder(image, prefix_len_B, grid_B2)
        num_own_B = None if grid_B2 is None else grid_B2.prod(dim=1)
        hidden: tuple[Tensor, Tensor] = self.decoder(features_BID, token_BT, text_len_B, num_own_B)
        return hidden


class CaptionReader(nn.Module):
    """A decoder that predicts captions from standardised features, so that those of all encoders have one scale."""

    def __init__(self, config: ModelConfig, mean_D: Tensor, std_D: Tensor) -> None:
        super().__init__()
        self.decoder = StandardisingDecoder(config, mean_D, std_D)


class StandardisingDecoder(Decoder):
    """A decoder of tokens that standardises the features it reads."""

    def __init__(self, config: ModelConfig, mean_D: Tensor, std_D: Tensor) -> None:
        super().__init__(config, ("tokens",))
        self.register_buffer("mean_D", mean_D)
        self.register_buffer("std_D", std_D)

    def _image(self, features_BID: Tensor) -> Tensor:
        return super()._image((features_BID - self.get_buffer("mean_D")) / self.get_buffer("std_D"))
