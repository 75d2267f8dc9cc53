"""Recipes: functions that return a complete run, each with its lab sheet."""

from collections.abc import Callable

from aimv2.config import (
    BudgetConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ProbeConfig,
    RunConfig,
    TransformerConfig,
)


def demo() -> RunConfig:
    """A real, small AIMv2 for one CPU core.

    Source: ours; the paper's proportions where they survive (encoder twice as deep as the decoder and equally wide, as
        at ViT-L). Learning rate and weight decay, rounded, are the best of 14 trials of
        ``python sweeps/search.py search=optimizer scale=demo search.trials=14 seed=1000``: 2.06e-3 and 1.4e-3.
    Command: ``python -m aimv2 train scale=demo``; about a minute.
    """
    return RunConfig(
        scale="demo",
        model=ModelConfig(
            encoder=TransformerConfig(width=96, depth=4, num_heads=3),
            decoder=TransformerConfig(width=96, depth=2, num_heads=3),
            image_px=32,
            patch_px=8,
            vocab_size=2048,
            max_text_tokens=16,
        ),
        budget=BudgetConfig(samples=20_480, batch_size=32),
        optimizer=OptimizerConfig(peak_lr=2e-3, warmup_fraction=0.1, weight_decay=1e-3),
        evaluation=EvaluationConfig(
            num_pairs=1024,
            curve_pairs=256,
            probe=ProbeConfig(
                learning_rates=(1e-3, 3e-3, 1e-2), weight_decays=(0.05,), epochs=15, batch_size=128, head_dim=32
            ),
        ),
    )


SCALES: dict[str, Callable[[], RunConfig]] = {"demo": demo}
