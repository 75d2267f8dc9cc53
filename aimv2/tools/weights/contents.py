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
from aimv2.config.model_config import DecoderConfig, EncoderConfig, ModelConfig, TextTowerConfig
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.encoder import Encoder
from aimv2.model.network import Network
from aimv2.model.positions import resample
from aimv2.objectives.contrastive import MAX_SCALE

MAX_GRID = 256  # patches along a side after resampling


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TextTowerSizes:
    """The text tower of a pair of encoders.

    Attributes:
        embed_dim: of the space that images and texts share.
        end_id: end-of-text; a caption is pooled at its first one.
    """

    width: int = Field(gt=0)
    depth: int = Field(gt=0)
    num_heads: int = Field(gt=0)
    embed_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    max_text_tokens: int = Field(gt=0)
    end_id: int = Field(ge=0)

    def __post_init__(self) -> None:
        if self.end_id >= self.vocab_size:
            raise ValueError(f"end_id={self.end_id} is not below vocab_size={self.vocab_size}")


# A placeholder where there is none, as small as a ModelConfig allows; the image encoder does not read it.
NO_TEXT_TOWER = TextTowerSizes(width=1, depth=1, num_heads=1, embed_dim=1, vocab_size=3, max_text_tokens=2, end_id=0)


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
        text_tower: None if there is only an image encoder.
    """

    layout_version: Literal[1] = 1
    source: Source
    image_px: int = Field(gt=0)
    patch_px: int = Field(gt=0)
    patch_order: Literal["raster", "spiral", "random"] = "raster"
    encoder: EncoderConfig
    text_tower: TextTowerSizes | None = None

    def __post_init__(self) -> None:
        _ = self.model  # a ModelConfig checks its values

    @property
    def model(self) -> ModelConfig:
        """The config from which the network is built; it has no decoder."""
        tower = self.text_tower or NO_TEXT_TOWER
        return ModelConfig(
            encoder=self.encoder,
            decoder=DecoderConfig(width=1, depth=1, num_heads=1),
            text_tower=TextTowerConfig(
                width=tower.width, depth=tower.depth, num_heads=tower.num_heads, embed_dim=tower.embed_dim
            ),
            image_px=self.image_px,
            patch_px=self.patch_px,
            vocab_size=tower.vocab_size,
            max_text_tokens=tower.max_text_tokens,
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
    """Return the network of the config on torch's meta device, so without memory for its tensors."""
    with torch.device("meta"):
        if config.text_tower is not None:
            return DualEncoder(config.model, temperature=1.0, max_scale=MAX_SCALE)
        network = Network()
        network.encoder = Encoder(config.model)
        return network


def dtypes(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the dtypes of the tensors by name: ``float32``, ``bfloat16``."""
    return sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()})


def split_off_encoder(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the encoder's tensors, and the names of the other parts of the network."""
    others = {name.partition(".")[0] for name in tensors} - {"encoder"}
    return {name: value for name, value in tensors.items() if name.startswith("encoder.")}, ", ".join(sorted(others))


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
