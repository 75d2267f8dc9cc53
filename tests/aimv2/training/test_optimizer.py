"""The optimizer and its schedule against 40 steps of the released code's (``tests/golden/README.md``)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from aimv2.config.recipes.scales import demo
from aimv2.config.training_config import OptimizerConfig
from aimv2.model.network import EncoderDecoder
from aimv2.training.optimizer import build_optimizer, is_decayed, learning_rate

GOLDEN = Path(__file__).parents[2] / "golden" / "adamw_fully_decoupled.safetensors"
CONFIG = OptimizerConfig(peak_lr=1e-3, min_lr=1e-5, start_lr=1e-6, warmup_fraction=0.25, weight_decay=1e-2)


@pytest.mark.parametrize(("golden_key", "name"), [("decayed", "weight"), ("not_decayed", "norm")])
def test_forty_steps_match_the_released_optimizer_and_schedule(golden_key, name):
    golden = load_file(GOLDEN)
    model = nn.ParameterDict({name: nn.Parameter(golden["init"].double())})
    optimizer, rate = build_optimizer(model, CONFIG), learning_rate(CONFIG)
    num_steps = len(golden["lr"])
    for step in range(num_steps):
        assert rate(step / num_steps) == pytest.approx(golden["lr"][step].item(), rel=1e-6)
        for group in optimizer.param_groups:
            group["lr"] = rate(step / num_steps)
        model[name].grad = golden["grads"][step].double()
        optimizer.step()
        torch.testing.assert_close(model[name].data, golden[golden_key][step], rtol=1e-9, atol=1e-9)


def test_biases_norms_positions_and_bos_are_not_decayed():
    not_decayed = {name for name, _ in EncoderDecoder(demo().model).named_parameters() if not is_decayed(name)}
    blocks = [f"encoder.blocks.{i}" for i in range(4)] + [f"decoder.blocks.{i}" for i in range(2)]
    assert not_decayed == {f"{block}.norm{i}.weight" for block in blocks for i in (1, 2)} | {
        "encoder.norm.weight",
        "encoder.patch_norm.weight",
        "encoder.patch_embed.bias",
        "encoder.pos_embed",
        "decoder.norm.weight",
        "decoder.image_proj.bias",
        "decoder.bos",
        "decoder.text_pos_embed",
    }
