"""What a run records while it trains."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.config.data_config import CHECKED


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LogConfig:
    """What is recorded while a run trains.

    Attributes:
        every_steps: steps between two writes of training metrics, whose rows are then copied from the device together.
        tensorboard: write metrics and pictures as TensorBoard events, too.
        picture_points: points of the held-out curve at which predictions are drawn, its first and last among them; all
            if there are fewer. 1 is the last alone, 0 none.
        wandb: send metrics to Weights & Biases too, while the run trains.
    """

    every_steps: int = Field(default=10, gt=0)
    tensorboard: bool = True
    picture_points: int = Field(default=3, ge=0)
    wandb: bool = False
