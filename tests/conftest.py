"""A run small enough for tests, on real pairs that are drawn once per test session."""

from dataclasses import replace

import pytest
import torch

from aimv2.config import (
    BudgetConfig,
    DataConfig,
    EvaluationConfig,
    LogConfig,
    ModelConfig,
    ProbeConfig,
    RunConfig,
    TransformerConfig,
)
from aimv2.data.pairs import load_pairs, load_tokenizer, split

torch.set_num_threads(1)  # per-step losses are pinned, and threads change the order of sums


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """One cache for the whole session, shared by the processes of pytest-xdist."""
    return str(tmp_path_factory.getbasetemp().parent / "aimv2-cache")


@pytest.fixture(scope="session")
def tiny(cache_dir) -> RunConfig:
    """A complete run of two steps."""
    return RunConfig(
        scale="test",
        model=ModelConfig(
            encoder=TransformerConfig(width=32, depth=2, num_heads=2),
            decoder=TransformerConfig(width=32, depth=1, num_heads=2),
            image_px=16,
            patch_px=4,
            vocab_size=512,
            max_text_tokens=12,
        ),
        budget=BudgetConfig(samples=16, batch_size=8),
        data=DataConfig(sources=("openmoji", "fontawesome"), render_px=24, cache_dir=cache_dir),
        evaluation=EvaluationConfig(
            num_pairs=32,
            curve_pairs=16,
            curve_points=2,
            num_examples=2,
            probe=ProbeConfig(learning_rates=(1e-3, 1e-2), weight_decays=(0.05,), epochs=1, head_dim=16),
        ),
        log=LogConfig(every_steps=1),
        precision="float32",
        device="cpu",
    )


@pytest.fixture(scope="session")
def pairs(tiny):
    """Training pairs, held-out pairs and tokenizer of the tiny run."""
    train, held_out = split(load_pairs(tiny.data), tiny.data.held_out_fraction)
    return train, held_out, load_tokenizer(tiny.data, tiny.model, train)


@pytest.fixture
def images(tiny):
    """A batch of random network inputs for the tiny model: float32 [6, 3, 16, 16]."""
    return torch.randn(6, 3, tiny.model.image_px, tiny.model.image_px, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tokens(tiny):
    """Random captions for the tiny model: int64 [6, 12]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, tiny.model.vocab_size, (6, tiny.model.max_text_tokens), generator=generator)


@pytest.fixture(scope="session")
def with_samples():
    """The run with another number of samples."""

    def change(config: RunConfig, samples: int) -> RunConfig:
        return replace(config, budget=replace(config.budget, samples=samples))

    return change
