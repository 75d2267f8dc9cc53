"""Recipes of post-training: functions from a run to one that starts from its weights, each with its lab sheet.

The paper gives few of their values. Those that it does not give are ours, and not tuned; each docstring says which.
"""

from collections.abc import Callable, Mapping
from typing import Any

from aimv2.config.data_config import DataConfig
from aimv2.config.program import replaced
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import MIN_AREA, NativeConfig

OWN = "none"  # the choice that changes nothing


def high_res(run: RunConfig) -> RunConfig:
    """Adapt a trained model to images that are 1.5 times as large, as the paper's models of 336 px.

    Source: section 2.4: 2B pairs of the same data after 12B, so a sixth of the run's samples; no synthetic captions; no
        weight decay. Ours: both losses and the prefixes stay as they were; learned positions are resampled (bicubic,
        antialiased); the peak learning rate is a tenth of the run's, with the same warm-up, cosine and batch size.
    Command: ``python -m aimv2 train recipe=high_res start.weights=runs/NAME``. The paper's 448 px are ``image_px``
        twice as large; ``data.render_px`` has to be as large at least.
    Number to expect: 87.6 % on ImageNet-1k by attentive probe for ViT-L, 86.6 % before (Table B2), on the paper's data.
    """
    model = run.model
    image_px = round(model.grid * 336 / 224) * model.patch_px
    values = {
        "native": {},
        "model.image_px": image_px,
        "data.render_px": -(-run.data.render_px * image_px // model.image_px),
        "budget.samples": _samples(run, 1 / 6),
        "optimizer.weight_decay": 0.0,
        "optimizer.peak_lr": run.optimizer.peak_lr / 10,
    }
    return replaced(run, {**values, **without_dense(run.data)})


def native(run: RunConfig) -> RunConfig:
    """Adapt a trained model to images of any size and aspect ratio, as AIMv2-L native.

    Source: section 2.4 and ml-aim. Each step draws an area of half to 16 times the patches of the images before (128 to
        4096 at 224 px); images keep their aspect ratio; the patches of a step are constant; positions are sin-cos. The
        paper gives no more. Ours: samples, learning rate, weight decay and captions as in ``high_res``; a step has as
        many patches as before, or the least that make whole images of each area; both losses and the prefixes stay;
        areas are powers of two times the smallest; images fill whole patches, and nothing sees the padding after them.
    Command: ``python -m aimv2 train recipe=native start.weights=runs/NAME``.
    Number to expect: 86.1 % on ImageNet-1k by attentive probe at 224 px and 87.3 % at native resolution for ViT-L, on
        the paper's data (Table 6).
    """
    smallest = max(run.model.num_patches // 2, MIN_AREA)
    areas = NativeConfig(areas=tuple(smallest * 2**n for n in range(6)))
    multiple = areas.batch_multiple(run.model.num_patches, run.batch_parts)
    batch_size = -(-run.budget.batch_size // multiple) * multiple
    values = {
        "native.areas": areas.areas,
        "model.encoder.positions": "sincos",
        "budget": {"samples": _samples(run, 1 / 6, batch_size), "batch_size": batch_size},
        "optimizer.weight_decay": 0.0,
        "optimizer.peak_lr": run.optimizer.peak_lr / 10,
    }
    return replaced(run, {**values, **without_dense(run.data)})


def lit(run: RunConfig) -> RunConfig:
    """Train a text tower on a frozen encoder, so that images can be classified by the names of classes (LiT).

    Source: section 4.1: 3B pairs after 12B, so a quarter of the run's samples, here those of the run itself. ml-aim
        ``aimv2_large_lit``: attention pooling of the image features, 768 wide, 12 deep tower (``scale=vit_*`` has it),
        temperature 0.07, scale at most 100. Ours: CLIP's loss on the batches, learning rate, weight decay, warm-up and
        cosine of the run; and the run's tokenizer, where ml-aim has CLIP's.
    Command: ``python -m aimv2 train recipe=lit start.weights=runs/NAME``.
    Number to expect: 77.0 % zero-shot on ImageNet-1k for ViT-L (Table 5), on the paper's data.
    """
    values = {
        "start.frozen": ("encoder",),
        "objective": {"name": "clip"},
        "model.encoder.attention": "auto",
        "prefix": {},
        "native": {},
        "budget.samples": _samples(run, 1 / 4),
    }
    return replaced(run, values)


RECIPES: Mapping[str, Callable[[RunConfig], RunConfig]] = {
    recipe.__name__: recipe for recipe in (high_res, native, lit)
}


def without_dense(data: DataConfig) -> dict[str, Any]:
    """Return the values, by path, that leave out dense captions, which stand in for synthetic ones.

    A source with a share of its own of dense captions loses that share of its weight. Table 2 without synthetic
    captions so has 30, 9 and 28 parts of DFN-2B, COYO and HQITP.
    """
    values: dict[str, Any] = {"data.dense_fraction": 0.0, "data.dense_fractions": None}
    if data.weights is not None and data.dense_fractions is not None:
        others = [weight * (1 - share) for weight, share in zip(data.weights, data.dense_fractions, strict=True)]
        if any(others):
            values["data.weights"] = tuple(others)
    return values


def _samples(run: RunConfig, ratio: float, batch_size: int | None = None) -> int:
    """Return the run's samples times a ratio, in whole batches, of the run or of this size, and at least one."""
    batch_size = batch_size or run.budget.batch_size
    return max(round(run.budget.samples * ratio / batch_size), 1) * batch_size
