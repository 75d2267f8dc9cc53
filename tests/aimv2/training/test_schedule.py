from pathlib import Path

import torch
from safetensors.torch import load_file

from aimv2.config.run_config import OptimizerConfig
from aimv2.training.schedule import learning_rate

GOLDEN = Path(__file__).parents[2] / "golden" / "adamw_fully_decoupled.safetensors"
CONFIG = OptimizerConfig(peak_lr=1e-3, min_lr=1e-5, start_lr=1e-6, warmup_fraction=0.25)


def test_learning_rates_match_the_released_schedule():
    expected = load_file(GOLDEN)["lr"].double()
    rate = learning_rate(CONFIG)
    actual = torch.tensor([rate(step / len(expected)) for step in range(len(expected))], dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0)
