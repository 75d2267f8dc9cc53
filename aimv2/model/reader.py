"""The reader: a decoder of captions over the features of an encoder that is not trained with it."""

from torch import Tensor, nn

from aimv2.config.model_config import ModelConfig
from aimv2.model.decoder import Decoder


class CaptionReader(nn.Module):
    """A decoder that predicts captions from standardised features, so that those of all encoders have one scale.

    Args:
        config: the sizes of the decoder and of the features (``encoder.width``).
        mean_D, std_D: of the features over all patches.
    """

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
