"""The evaluation part of a run's config: held-out pairs, and probes of the frozen encoder."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.config.data_config import CHECKED
from aimv2.config.model_config import DecoderConfig

HEAD_DIM = 16  # of the reader
VALIDATION_SHARE = 0.2  # of the images of a transfer task that are not for the test


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ProbeConfig:
    """The attentive probe's grid and length (paper Table A2: learning rates from 5e-5 to 2e-3, here with a neighbour on
    each side so that the best may be inside; 2 weight decays; 100 epochs)."""

    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(2e-5, 5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3), min_length=1
    )
    weight_decays: tuple[float, ...] = Field(
        default=(0.05, 0.1), min_length=1, description="of the attentive probe, each with every learning rate"
    )
    epochs: int = Field(default=100, gt=0, description="of the attentive probe")
    batch_size: int = Field(default=512, gt=0, description="images in a step of the attentive probe")
    head_dim: int = Field(
        default=128, gt=0, description="width of the probe's heads (ml-aim AttentionPoolingClassifier)"
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ReaderConfig:
    """A decoder that is trained on captions to read the frozen encoder, of the same size for every run.

    It stands for the paper's instruction tuning, in which a language model learns to read the frozen encoder (section
    4.3.1). No recipe's or study's decoder has its width.
    """

    samples: int = Field(default=0, ge=0, description="captions that the reader is trained on; with 0 there is none")
    pairs: int = Field(default=10_240, gt=0, description="training pairs that have these captions; encoded once")
    width: int = Field(default=80, gt=0, description="of the reader, with heads of 16")
    depth: int = Field(default=1, gt=0, description="blocks of the reader")
    batch_size: int = Field(default=32, gt=0, description="captions in a step of the reader")
    peak_lr: float = Field(default=4e-3, gt=0, description="learning rate of the reader after its warm-up")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the reader's steps that its warm-up takes")
    readers: int = Field(
        default=1, gt=0, description="readers that differ in start and order alone, whose losses are averaged"
    )
    questions: int = Field(
        default=0,
        ge=0,
        description="questions about these pairs that the reader is then tuned on; with 0 it is asked none",
    )

    def __post_init__(self) -> None:
        if self.width % HEAD_DIM:
            raise ValueError(f"width={self.width} is not a multiple of {HEAD_DIM}")

    @property
    def decoder(self) -> DecoderConfig:
        """The size of the reader."""
        return DecoderConfig(
            width=self.width,
            depth=self.depth,
            num_heads=self.width // HEAD_DIM,
            ffn_multiple=HEAD_DIM,
            image_positions=True,
        )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EvaluationConfig:
    """Measurements on held-out pairs.

    Attributes:
        split: the held-out pairs that are measured: those for the ``test``, which reports read, or others of the same
            number for ``validation``, by which values are chosen (``search=optuna``).
        num_items: held-out pairs for caption losses, and test images of the probes on scenes; all if there are fewer.
        num_pairs: the first of them, for the metrics that cost more than they tell: pixel losses,
            unseen objects, and retrieval.
        num_other_images: the first of them, whose captions are also given another image (image gains), and about which
            the reader is asked.
        num_probe_scenes: training scenes for the probes, of which a fifth is for validation.
        curve_pairs: held-out pairs for each point of the curve during training.
        curve_points: points of that curve, including the untrained model's.
        prefix_fractions: fixed prefix lengths at which the pixel loss of every arm is measured.
        reader: measures what a fresh decoder reads from the frozen encoder.
        knn_neighbours: k, or all training images of a task that has fewer.
        num_examples: held-out images whose captions are saved for the report.
        metrics: names of metrics of plug-ins that are measured besides; a study adds those that it compares.
        sets: paths of descriptions of labelled sets (docs/weights.md), on which probes are measured besides.
        set_images: images of each of these sets that are used, at most, so that a run stays cheap.
    """

    split: Literal["test", "validation"] = "test"
    num_items: int = Field(default=5120, gt=0)
    num_pairs: int = Field(default=2048, gt=0)
    num_other_images: int = Field(default=2048, gt=0)
    num_probe_scenes: int = Field(default=10_240, gt=1)
    curve_pairs: int = Field(default=512, gt=0)
    curve_points: int = Field(default=13, gt=1)
    prefix_fractions: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.25, 0.5, 0.75)
    probe: ProbeConfig = ProbeConfig()
    reader: ReaderConfig = ReaderConfig()
    knn_neighbours: int = Field(default=10, gt=0, le=1000)  # the digits have 1,078 training images
    num_examples: int = Field(default=12, ge=0)
    metrics: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    set_images: int = Field(default=5000, gt=3)
