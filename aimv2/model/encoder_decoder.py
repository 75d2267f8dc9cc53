"""The network of encoder and decoder (paper Figure 1)."""

from torch import Tensor

from aimv2.config.model_config import ModelConfig
from aimv2.model.decoder import Decoder, SeparateDecoders, Target
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network


class EncoderDecoder(Network):
    """An encoder and a decoder that reads its features; with both heads this is AIMv2's network.

    Args:
        predicts, is_parallel: those of ``Decoder``.
    """

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
