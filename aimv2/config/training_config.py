"""The parts of a run's config on its training. Each states the paper's values."""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.config.data_config import CHECKED


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ObjectiveConfig:
    """The training objective.

    Attributes:
        name: one of ``aimv2.definitions.objectives.OBJECTIVES``. ``aimv2``: captions and pixels; ``caption``;
            ``image_only``: pixels, AIM v1's objective with this decoder; ``cappa``; ``clip``; ``siglip``.
        pixel_weight: alpha in text + alpha x pixel (paper section 2.1); 0.4 in the paper (section 5, Table 9c).
        pixel_values: a patch's squared error is the ``mean`` over its values, as in the released code, to which
            alpha = 0.4 applies, or their ``sum``, as in the paper's printed formula.
        pixel_patches: ``batch`` is the mean over all scored patches of the batch; ``rank`` is the mean over those of
            each rank, averaged over ranks, as the released code has it, and the same on one rank; ``image`` is each
            image's sum divided by I, averaged over images, as in the paper's printed formula, which gives long
            prefixes less weight; ``image_mean`` is each image's mean over its scored patches, averaged over images.
        text_tokens: ``batch`` is the mean over all supervised tokens of the batch; ``rank`` is the mean over those of
            each rank, averaged over ranks, as the released code has it, and the same on one rank; ``caption`` is each
            caption's mean over its tokens, averaged over captions, as in the paper's printed formula (section 2.1),
            which gives tokens of long captions less weight. A caption without tokens adds 0.
        pixel_targets: ``standardised``, each patch by its own mean and standard deviation (the paper's, after MAE), or
            ``raw``, the network's input.
        supervise_eos: True makes the end-of-text token a target, as in Figure 1. The released config ignores id 1,
            which is both end-of-text and padding, and we follow the config.
        parallel_fraction: share of a batch that is predicted in parallel; cappa only. 0.75 in its paper
            (arXiv 2306.07915).
        temperature: initial temperature, at least 0.01; clip and siglip only. None is the objective's own: 0.07 for
            clip (ml-l3m), 0.1 for siglip (arXiv 2303.15343).
        bias: initial bias; siglip only. None is its paper's -10, for batches of 32k. The log odds of a pair,
            -log(batch - 1), suit smaller ones: from -10, ``laptop`` ends its training at -9.85.
    """

    name: str = "aimv2"
    pixel_weight: float = Field(default=0.4, ge=0)
    pixel_values: Literal["mean", "sum"] = "mean"
    pixel_patches: Literal["batch", "rank", "image", "image_mean"] = "batch"
    pixel_targets: Literal["standardised", "raw"] = "standardised"
    text_tokens: Literal["batch", "rank", "caption"] = "batch"
    supervise_eos: bool = False
    parallel_fraction: float = Field(default=0.75, ge=0, le=1)
    temperature: float | None = Field(default=None, ge=0.01)
    bias: float | None = None


NUM_MOMENTS = 2  # of AdamW: tensors of a parameter's size for each parameter, in memory and in checkpoints


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class OptimizerConfig:
    """Fully decoupled AdamW with linear warm-up and cosine decay (paper Table A1; values marked ml-l3m are from there).

    Attributes:
        name: there is no other yet.
        peak_lr: 1e-3 for ViT-L.
        min_lr: last learning rate of the cosine; 1e-5.
        start_lr: first learning rate of the warm-up; 1e-6 (ml-l3m).
        warmup_fraction: share of all steps; 12,500 of 1,500,000 in the paper.
        weight_decay: lambda; each step multiplies decayed weights by 1 - lambda x lr / peak_lr. 1e-4.
        clip_norm: maximum L2 norm of the gradient; 1.0.
    """

    name: Literal["adamw"] = "adamw"
    peak_lr: float = Field(default=1e-3, gt=0)
    min_lr: float = Field(default=1e-5, ge=0)
    start_lr: float = Field(default=1e-6, ge=0)
    warmup_fraction: float = Field(default=12_500 / 1_500_000, gt=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    clip_norm: float = Field(default=1.0, gt=0)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class BudgetConfig:
    """Length of training. ``samples=0`` is an untrained model, which is evaluated like any other.

    At native resolution (``native.areas``), samples and batch size count images of ``model.image_px``: a step has as
    many patches as ``batch_size`` of them, in more or fewer images.
    """

    samples: int = Field(ge=0)
    batch_size: int = Field(gt=0)

    def __post_init__(self) -> None:
        if self.samples % self.batch_size:
            lower = self.samples // self.batch_size * self.batch_size
            raise ValueError(
                f"samples={self.samples} is not a multiple of batch_size={self.batch_size};"
                f" the nearest are {lower} and {lower + self.batch_size}"
            )

    @property
    def num_steps(self) -> int:
        return self.samples // self.batch_size


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class StartConfig:
    """The start of a run from given weights (docs/post-training.md), and the parts of the network that stay as they
    are.

    Attributes:
        weights: path of a finished run, or of a folder of ``weights import``. Parts of the network that it has too
            start from its weights, the others from random ones. None starts all of them from random weights.
        frozen: parts that are not trained.
        fingerprint: name of that run, or hash of the content of that folder, so that other weights name another run;
            ``aimv2.request.resolve`` fills it in.
    """

    weights: str | None = None
    frozen: tuple[Literal["encoder"], ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LoaderConfig:
    """Worker processes that prepare batches.

    Attributes:
        num_workers: of each rank; 0 prepares batches in the training process. ``auto`` is 0 on the CPU, whose cores
            compute, and one for each core that the training process leaves on a GPU (``aimv2.memory.setup``).
    """

    num_workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class CheckpointConfig:
    """Periodic checkpoints.

    Attributes:
        every_seconds: shortest time between two checkpoints. It is longer if saving takes long: at least 99 times the
            seconds of the last save, so that saving takes at most 1 % of the time.
    """

    every_seconds: float = Field(default=60.0, gt=0)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LogConfig:
    """What is recorded while a run trains.

    Attributes:
        every_steps: steps between two writes of training metrics, whose rows are then copied from the device together.
        tensorboard: write metrics as TensorBoard events, too.
    """

    every_steps: int = Field(default=10, gt=0)
    tensorboard: bool = True


MIN_AREA = 4  # below, a square image may have a single patch, which leaves none to predict
MAX_AREA = 2**20


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class NativeConfig:
    """Training at native resolution: images keep their aspect ratio, and each step draws the area that they fit.

    Attributes:
        areas: numbers of patches, ascending, of which each step draws one with the probabilities ``pmf``. An image has
            at most as many, and the step as many images as keep the product of both constant. Empty is no native
            resolution: all images are squares of ``model.image_px``.

    Source: section 2.4. A = 2^n, with n from a standard normal that is truncated to [-1, 1] and mapped linearly onto
    [7, 12]. Ours: n is rounded, so that the number of images is whole.
    """

    areas: tuple[Annotated[int, Field(ge=MIN_AREA, le=MAX_AREA)], ...] = ()

    def __post_init__(self) -> None:
        if list(self.areas) != sorted(set(self.areas)):
            raise ValueError(f"areas={list(self.areas)} must ascend")

    def batch_multiple(self, num_patches: int, parts: int = 1) -> int:
        """Return the number of which the batch size is a multiple, so that each part has whole images of every area."""
        patches = parts * math.lcm(*self.areas)
        return math.lcm(parts, patches // math.gcd(patches, num_patches)) if self.areas else parts

    def pmf(self) -> np.ndarray:
        """Return the probability of each area: float64 [K]."""
        if len(self.areas) < 2:
            return np.ones(len(self.areas))
        last = len(self.areas) - 1
        # Numbers between two areas are rounded to the nearer one, so the first and the last have half as wide a range.
        edges = [-1.0, *(2 * (number + 0.5) / last - 1 for number in range(last)), 1.0]
        below = np.array([math.erf(edge / math.sqrt(2)) for edge in edges])
        pmf: np.ndarray = np.diff(below) / (below[-1] - below[0])
        return pmf
