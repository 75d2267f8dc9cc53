"""The contents of a folder of weights: a config that agrees with its tensors, and the tensors under our names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.config.arguments import checked
from aimv2.config.data_config import CHECKED
from aimv2.config.model_config import DecoderConfig, EncoderConfig, ModelConfig
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network
from aimv2.model.positions import resample

MAX_GRID = 256  # patches along a side after resampling


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Source:
    """The origin of weights.

    Attributes:
        layout: of the file they were read from, or ``run``.
        file: name of the file or of the run.
        dtypes: of the file's tensors; ours are float32.
        resampled_from_px: image size of the original positions, if they were resampled.
    """

    layout: str
    file: str
    dtypes: tuple[str, ...]
    resampled_from_px: int | None = None


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class WeightsConfig:
    """The sizes and origin of weights: the ``config.json`` of our folders, without parts that only training needs.

    Attributes:
        encoder: its ``attention`` is that of training, ``auto`` for published weights; inference uses full attention.
        image_px: side of the square image that a learned table of positions is for. Sin-cos positions take any size;
            then this is the size that the source names, or 16 patches.
        text_tower: always None; folders of earlier versions state it.
    """

    layout_version: Literal[1] = 1
    source: Source
    image_px: int = Field(gt=0)
    patch_px: int = Field(gt=0)
    patch_order: Literal["raster", "spiral", "random"] = "raster"
    encoder: EncoderConfig
    text_tower: None = None

    def __post_init__(self) -> None:
        _ = self.model  # a ModelConfig checks its values

    @property
    def model(self) -> ModelConfig:
        """The config from which the encoder is built."""
        return ModelConfig(
            encoder=self.encoder,
            decoder=DecoderConfig(width=1, depth=1, num_heads=1),  # as small as is allowed, and not read
            image_px=self.image_px,
            patch_px=self.patch_px,
            vocab_size=3,
            max_text_tokens=2,
            patch_order=self.patch_order,
        )


class Weights(NamedTuple):
    """A config, its tensors (float32, under our names), and the omitted parts of the source with the reason."""

    config: WeightsConfig
    tensors: dict[str, Tensor]
    omitted: str = ""


def weights_config(where: Path | str, values: Mapping[str, Any]) -> WeightsConfig:
    """Build a config from nested dicts; the UsageError of a wrong one names the file that they are from."""
    config: WeightsConfig = checked(str(where), WeightsConfig, values)
    return config


def empty_network(config: WeightsConfig) -> Network:
    """Return a network with only the encoder, on torch's meta device, so without memory for its tensors."""
    network = Network()
    with torch.device("meta"):
        network.encoder = Encoder(config.model)
    return network


def dtypes(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the dtypes of the tensors by name: ``float32``, ``bfloat16``."""
    return sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()})


def resampled(weights: Weights, image_px: int) -> Weights:
    """Return the weights for another image size: a learned table of positions is resampled, bicubic with antialiasing.

    Raises:
        UsageError: the size is not a multiple of the patch, or has fewer than 2 or more than 256 patches along a side.
    """
    config = weights.config
    grid, rest = divmod(image_px, config.patch_px)
    if rest or not 2 <= grid <= MAX_GRID:
        low, high = 2 * config.patch_px, MAX_GRID * config.patch_px
        raise UsageError(f"image_px={image_px} must be a multiple of patch_px={config.patch_px} from {low} to {high}")
    if image_px == config.image_px:
        return weights
    tensors, source = weights.tensors, config.source
    if config.encoder.positions == "learned":
        table_1ID = resample(tensors["encoder.pos_embed"], grid, grid).contiguous()
        tensors = {**tensors, "encoder.pos_embed": table_1ID}
        source = replace(source, resampled_from_px=config.image_px)
    return weights._replace(config=replace(config, image_px=image_px, source=source), tensors=tensors)
