"""Encoder and decoder together (paper Figure 1)."""

from torch import Tensor

from aimv2.config.run_config import ModelConfig
from aimv2.model.decoder import Decoder, SeparateDecoders, Target
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network


class EncoderDecoder(Network):
    """An encoder whose features a decoder reads; with both heads it is AIMv2's network.

    Args:
        predicts, is_parallel: what the decoder does (``Decoder``).
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
    ) -> tuple[Tensor, Tensor]:
        """Decoder hidden states of the image part [B, I, E] and the text part [B, 1+T, E].

        The heads are left to the objective, which applies them only where a loss is due.
        """
        hidden: tuple[Tensor, Tensor] = self.decoder(self.encoder(image, prefix_len_B), token_BT, text_len_B)
        return hidden
