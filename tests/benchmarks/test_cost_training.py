"""Training steps of a cost study: their FLOPs by torch's counter, and the proportions of the smaller ViT-L."""

from dataclasses import replace
from itertools import count

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aimv2.config.recipes.scales import demo, vit_l
from aimv2.objectives.build import parameters_by_part
from aimv2.spec.objectives import PRE_TRAINING, objective
from benchmarks.cost_training import (
    Scale,
    in_proportion,
    measure_objectives,
    random_batch,
    step_of,
    with_objective,
)


@pytest.fixture(scope="module")
def settings():
    ticks = count()
    timed, untimed = Scale("demo", "small", demo(), 2), Scale("vit_l", "large", vit_l(), None)
    return [measure_objectives(scale, 2, "cpu", lambda: float(next(ticks))) for scale in (timed, untimed)]


@pytest.mark.exhaustive
def test_every_objective_is_timed_at_the_small_scale(settings):
    timed, untimed = settings
    assert [one.objective for one in timed.objectives] == list(PRE_TRAINING)
    assert all(one.seconds == [1.0, 1.0] for one in timed.objectives)
    assert all(one.seconds == [] and one.peak_bytes == 0 for one in untimed.objectives)
    assert (timed.batch_size, untimed.batch_size) == (2, 8192)
    assert untimed.cpu_share is None


@pytest.mark.parametrize("name", PRE_TRAINING)
def test_a_step_computes_the_flops_of_the_closed_form(settings, name):
    config = with_objective(demo(), name, batch_size=2, device="cpu")
    step = step_of(config)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    (cost,) = (one for one in settings[0].objectives if one.objective == name)
    # The closed form has the pixel head at all patches, and a step has it at the scored ones.
    heads = [part for part in objective(name).cost(config) if part.name == "pixel head"]
    skipped = 2 * config.model.num_patches - random_batch(config).num_scored
    of_heads = 3 * skipped * sum(round(part.products / config.model.num_patches) for part in heads)
    assert counter.get_total_flops() == 2 * cost.flops - of_heads


def test_steps_do_not_change_the_network():
    """Else the last rounds would train another network than the first, and could overflow."""
    config = with_objective(demo(), "aimv2", batch_size=2, device="cpu")
    step = step_of(config)
    model = step.objective.model
    before = [weight.detach().clone() for weight in model.parameters()]
    step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_in_proportion_keeps_each_parts_share_of_the_parameters():
    """But for the image head of contrastive objectives, which has one block at any depth.

    The hidden width of SwiGLU is rounded up, which makes up to a tenth.
    """
    large, small = vit_l(), in_proportion(vit_l())
    for name, parts in {"aimv2": ("encoder", "decoder"), "clip": ("encoder", "text_tower")}.items():
        configs = [replace(config, objective=replace(config.objective, name=name)) for config in (large, small)]
        of_large, of_small = (parameters_by_part(config) for config in configs)
        for part in parts:
            assert of_small[part] == pytest.approx(of_large[part] / 16, rel=0.1), part
    assert small.model.num_patches == 256
    assert small.model.encoder.width // small.model.encoder.num_heads == 128
