"""The pre-training model: encoder and decoder together."""

import torch
from torch import Tensor, nn

from aimv2 import address
from aimv2.config import ModelConfig
from aimv2.model.decoder import Decoder
from aimv2.model.encoder import Encoder


class AIMv2(nn.Module):
    """Encoder and multimodal decoder (paper Figure 1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, image: Tensor, token_BT: Tensor, prefix_len_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decoder hidden states of the image part [B, I, E] and the text part [B, 1+T, E].

        The heads are left to the objective, which applies them only where a loss is due.
        """
        return self.decoder(self.encoder(image, prefix_len_B), token_BT)


def build(config: ModelConfig, *, seed: int) -> AIMv2:
    """A model with weights that depend on the seed and their part's shapes alone.

    Encoder and decoder draw from addresses of their own, so arms that change one keep the weights of the other.
    """
    with torch.device("meta"):
        model = AIMv2(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for name, part in (("encoder", model.encoder), ("decoder", model.decoder)):
            generator = torch.Generator().manual_seed(address.integer(seed=seed, purpose=f"weights/{name}"))
            for module in part.modules():
                if isinstance(module, nn.RMSNorm):
                    module.reset_parameters()
            part.init_weights_(generator)
    return model
