"""Recipes: functions that return a complete run, each with its lab sheet.

The vit_* recipes have the paper's models, budgets and optimizer. The paper's data is not public (only 39 % of its
samples are), so by default they train on this project's pairs and are not expected to give the paper's numbers. The
paper gives neither their hardware nor their time, and we have not run them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aimv2.base.errors import UsageError
from aimv2.config.data_config import GLYPH_SOURCES, SCENE_SOURCES, DataConfig, SceneConfig, source_name
from aimv2.config.evaluation_config import EvaluationConfig, ProbeConfig, ReaderConfig
from aimv2.config.model_config import DecoderConfig, EncoderConfig, ModelConfig, TextTowerConfig
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import BudgetConfig, OptimizerConfig

# For encoders of 384 and more, of one size for all; not tuned.
LARGE_READER = ReaderConfig(samples=20_480, questions=5120, width=256, depth=2, batch_size=128)


def demo() -> RunConfig:
    """A small but complete AIMv2 for one CPU core.

    Source: ours, with the proportions of ViT-L where possible: the encoder is twice as deep as the decoder and equally
        wide. Small batches and mostly dense captions, because both let it see more within the same samples.
    Command: ``python -m aimv2 train scale=demo``; about half a minute on one core.
    Number to expect: content_loss 0.65 nats/token, between 0.56 and 0.74 (95 % over 4 seeds,
        reports/published/sensitivity).
    """
    return RunConfig(
        scale="demo",
        model=ModelConfig(
            encoder=EncoderConfig(width=96, depth=4, num_heads=6),
            decoder=DecoderConfig(width=96, depth=2, num_heads=6),
            image_px=32,
            patch_px=8,
            vocab_size=512,
            max_text_tokens=16,
        ),
        budget=BudgetConfig(samples=10_240, batch_size=16),
        data=DataConfig(render_px=32, dense_fraction=0.9, scenes=SceneConfig(num_objects=6, num_unseen=4)),
        optimizer=OptimizerConfig(peak_lr=1.4e-3, warmup_fraction=0.1, weight_decay=1e-3),
        evaluation=EvaluationConfig(
            num_items=5120,
            num_pairs=512,
            num_other_images=1536,
            num_probe_scenes=2048,
            curve_pairs=256,
            curve_points=7,
            probe=ProbeConfig(
                learning_rates=(3e-3, 1e-2, 4e-2, 1.6e-1),
                weight_decays=(0.05,),
                epochs=6,
                batch_size=128,
                head_dim=16,
            ),
        ),
    )


def laptop() -> RunConfig:
    """An AIMv2 for one CPU core in a world with room: the scale of claims on encoders.

    Source: ours, as ``demo``, with 200 objects, the r-th drawn with a probability proportional to r^-1.5, that differ
        in size and reach into other cells, an encoder that is narrow enough for its width to matter, and a frozen
        reader. Trials of the effects of ``sweep=sensitivity`` chose its values (docs/laptop.md).
    Command: ``python -m aimv2 train scale=laptop``; about a minute and a half on one core.
    Number to expect: reader_loss 0.77 nats/token, 0.749 to 0.785 over 4 seeds (reports/published/sensitivity_laptop).
    """
    base = demo()
    return dataclasses.replace(
        base,
        scale="laptop",
        model=dataclasses.replace(
            base.model,
            encoder=EncoderConfig(width=16, depth=4, num_heads=4, ffn_multiple=4),
            decoder=DecoderConfig(width=64, depth=2, num_heads=4, ffn_multiple=16),
            vocab_size=1024,
            max_text_tokens=24,
        ),
        budget=BudgetConfig(samples=24_576, batch_size=16),
        data=dataclasses.replace(
            base.data,
            sources=("material_scenes",),
            scenes=SceneConfig(
                num_objects=200,
                num_unseen=20,
                zipf=1.5,
                max_objects=3,
                min_size=0.75,
                overlap=0.12,
                composition="looks",
            ),
        ),
        optimizer=dataclasses.replace(base.optimizer, peak_lr=3.7e-3),
        evaluation=dataclasses.replace(
            base.evaluation,
            num_other_images=1024,
            num_probe_scenes=1024,
            probe=dataclasses.replace(base.evaluation.probe, learning_rates=(1e-2, 4e-2), head_dim=4),
            reader=ReaderConfig(samples=20_480, questions=5120),
        ),
    )


def laptop_mix() -> RunConfig:
    """``laptop`` on scenes of three sources, for studies of data mixtures.

    Source: ours; a third of the objects of ``laptop`` a source. With the paper's proportions, ``reader_loss`` sees
        words here, and half the samples, but not a quarter fewer.
    Command: ``python sweeps/launch.py sweep=data_mix``.
    Number to expect: reader_loss 0.88 nats/token, 0.847 to 0.903 over 4 seeds, with the paper's proportions
        (reports/published/sensitivity_46b28d62f77f_laptop_mix).
    """
    base = laptop()
    scenes = dataclasses.replace(base.data.scenes, num_objects=67)
    data = dataclasses.replace(base.data, sources=SCENE_SOURCES, scenes=scenes)
    return dataclasses.replace(base, scale="laptop_mix", data=data)


def tiny() -> RunConfig:
    """An AIMv2 for one workstation GPU: 21 M parameters in the encoder, 17 M elsewhere.

    Source: ours. Half the depth and heads of ViT-L, head dim 128 as in all of the paper's models; the learning rate of
        ``vit_b``. Not tuned.
    Command: ``python -m aimv2 train scale=tiny``. Hardware and time: meant for one GPU; not yet run to the end by us.
    Number to expect: none yet.
    """
    return RunConfig(
        scale="tiny",
        model=ModelConfig(
            encoder=EncoderConfig(width=384, depth=12, num_heads=3),
            decoder=DecoderConfig(width=384, depth=6, num_heads=3),
            image_px=64,
            patch_px=8,
            vocab_size=8192,
            max_text_tokens=32,
        ),
        budget=BudgetConfig(samples=2_048_000, batch_size=512),
        data=DataConfig(render_px=96),
        optimizer=OptimizerConfig(peak_lr=2e-3, warmup_fraction=0.05),
        evaluation=EvaluationConfig(reader=LARGE_READER),
    )


def small() -> RunConfig:
    """An AIMv2 for one node of GPUs: 55 M parameters in the encoder, 36 M elsewhere.

    Source: ours, as ``tiny``; 64 patches of 14 px. Not tuned.
    Command: ``python -m aimv2 train scale=small``. Hardware and time: meant for a node; not yet run to the end by us.
    Number to expect: none yet.
    """
    return RunConfig(
        scale="small",
        model=ModelConfig(
            encoder=EncoderConfig(width=512, depth=16, num_heads=4),
            decoder=DecoderConfig(width=512, depth=8, num_heads=4),
            image_px=112,
            patch_px=14,
            vocab_size=8192,
            max_text_tokens=48,
        ),
        budget=BudgetConfig(samples=16_384_000, batch_size=2048),
        data=DataConfig(render_px=144),
        optimizer=OptimizerConfig(peak_lr=2e-3, warmup_fraction=0.05),
        evaluation=EvaluationConfig(reader=LARGE_READER),
    )


def vit_b() -> RunConfig:
    """The base size, which the released code defines and the paper does not train: 85.6 M parameters.

    Source: ml-aim ``models.py`` (768 wide, 12 deep, 6 heads); learning rate of ml-l3m's mixture-of-experts config,
        whose experts have this size; 2B samples as the paper's ablations (section 5), with the warm-up of Table A1.
    Command: ``python -m aimv2 train scale=vit_b``.
    Number to expect: none published.
    """
    return _paper("vit_b", width=768, depth=12, num_heads=6, peak_lr=2e-3, num_steps=250_000)


def vit_l() -> RunConfig:
    """AIMv2-L: 309.2 M parameters in the encoder, about 221 M in the decoder.

    Source: Tables 1 and A1; heads and FFN from ml-aim.
    Command: ``python -m aimv2 train scale=vit_l``.
    Number to expect: 86.6 % on ImageNet-1k by attentive probe at 224 px (Table 3), on the paper's data.
    """
    return _paper("vit_l", width=1024, depth=24, num_heads=8, peak_lr=1e-3)


def vit_l_2b() -> RunConfig:
    """AIMv2-L as in the paper's ablations: 2B samples. The levels of our studies at this scale are the paper's.

    Source: section 5 (2B pairs, batches of 8192). The paper does not give the learning rate and warm-up of these runs;
        those of Table A1 are used.
    Command: ``python sweeps/launch.py sweep=loss_weight scale=vit_l_2b``.
    Number to expect: 85.6 % on ImageNet-1k by attentive probe at 224 px (Table 9a), on the paper's data.
    """
    return _paper("vit_l_2b", width=1024, depth=24, num_heads=8, peak_lr=1e-3, num_steps=250_000)


def vit_h() -> RunConfig:
    """AIMv2-H: 680.9 M parameters in the encoder.

    Source: Tables 1 and A1; heads and FFN from ml-aim.
    Command: ``python -m aimv2 train scale=vit_h``.
    Number to expect: 87.5 % on ImageNet-1k by attentive probe at 224 px (Table 3), on the paper's data.
    """
    return _paper("vit_h", width=1536, depth=24, num_heads=12, peak_lr=8e-4)


def vit_1b() -> RunConfig:
    """AIMv2-1B: 1235.0 M parameters in the encoder.

    Source: Tables 1 and A1; heads and FFN from ml-aim.
    Command: ``python -m aimv2 train scale=vit_1b``.
    Number to expect: 88.1 % on ImageNet-1k by attentive probe at 224 px (Table 3), on the paper's data.
    """
    return _paper("vit_1b", width=2048, depth=24, num_heads=16, peak_lr=8e-4)


def vit_3b() -> RunConfig:
    """AIMv2-3B: 2720.7 M parameters in the encoder.

    Source: Tables 1 and A1; heads and FFN from ml-aim.
    Command: ``python -m aimv2 train scale=vit_3b``.
    Number to expect: 88.5 % on ImageNet-1k by attentive probe at 224 px (Table 3), on the paper's data.
    """
    return _paper("vit_3b", width=3072, depth=24, num_heads=24, peak_lr=4e-4)


SCALES: dict[str, Callable[[], RunConfig]] = {
    recipe.__name__: recipe
    for recipe in (demo, laptop, laptop_mix, tiny, small, vit_b, vit_l, vit_l_2b, vit_h, vit_1b, vit_3b)
}


def _paper(
    name: str, *, width: int, depth: int, num_heads: int, peak_lr: float, num_steps: int = 1_500_000
) -> RunConfig:
    """Return a run of the paper with this encoder. Table A1's 1,500,000 steps of 8192 samples are its "12B".

    All sizes share the decoder (Tables 9e and 9f), images, captions, schedule (Table A1) and attentive probe (Table
    A2). The text tower of contrastive objectives is ml-aim's LiT tower.
    """
    return RunConfig(
        scale=name,
        model=ModelConfig(
            encoder=EncoderConfig(width=width, depth=depth, num_heads=num_heads),
            decoder=DecoderConfig(width=1024, depth=12, num_heads=8),
            text_tower=TextTowerConfig(width=768, depth=12, num_heads=6),
            image_px=224,
            patch_px=14,
            vocab_size=32_000,
            max_text_tokens=77,
        ),
        budget=BudgetConfig(samples=num_steps * 8192, batch_size=8192),
        data=DataConfig(render_px=256),
        optimizer=OptimizerConfig(peak_lr=peak_lr, warmup_fraction=12_500 / num_steps),
        evaluation=EvaluationConfig(reader=LARGE_READER),
    )


OWN = "own"  # the choice that sets nothing
NAMES = ("dfn", "coyo", "hqitp")  # of sources of one's own


class Preset(NamedTuple):
    """The share of each source, and the share of synthetic captions within it."""

    label: str
    weights: tuple[float, float, float]
    dense_fractions: tuple[float, float, float]


# Table 2, in percent of the samples: DFN-2B 30 alt-text and 30 synthetic, COYO 9 alt-text, HQITP 28 and 3.
PRESETS = {
    "paper": Preset("the paper's mixture (Table 2)", (60.0, 9.0, 31.0), (30 / 60, 0.0, 3 / 31)),
    # What of it can be downloaded: the alt-text of DFN-2B and COYO.
    "public": Preset("its public part: alt-text of DFN-2B and COYO", (30.0, 9.0, 0.0), (0.0, 0.0, 0.0)),
}


def have_roles(sources: Sequence[str]) -> bool:
    """True if the sources are, or stand in for, DFN-2B, COYO and HQITP, in this order."""
    return tuple(map(source_name, sources)) in (SCENE_SOURCES, GLYPH_SOURCES, NAMES)


def check_mixture(choice: str, sources: Sequence[str]) -> None:
    """Refuse a preset for other sources."""
    if choice != OWN and not have_roles(sources):
        raise UsageError(
            f"mixture={choice} needs three sources, {', '.join(f'{name}.yaml' for name in NAMES)} in this order, or the"
            f" built-in ones in theirs, and not data.sources={list(sources)}; set data.weights and"
            " data.dense_fractions for these"
        )
