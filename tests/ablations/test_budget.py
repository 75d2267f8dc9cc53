"""Matched budgets, against the cost in closed form."""

from dataclasses import replace

import pytest

from ablations.budget import flops_per_sample, matched, max_train_flops
from ablations.catalogue import STUDIES
from ablations.expand import expand
from ablations.study import UNTRAINED
from aimv2.config.paths import replaced
from aimv2.config.resolve import with_attention
from aimv2.config.scales import demo
from aimv2.cost import train_flops
from aimv2.errors import UsageError
from aimv2.objectives import objective


@pytest.fixture
def base():
    return with_attention(demo())


def test_max_train_flops_are_those_of_all_parts_with_full_captions(base):
    parts = objective("aimv2").cost(base)
    assert max_train_flops(base, 320) == train_flops(parts, 320, 320 * 16) == 320 * flops_per_sample(base)


@pytest.mark.parametrize("slug", ["objective", "resolution", "decoder_width", "decoder_sharing"])
def test_equal_flops_match_the_baseline_to_within_a_batch(base, slug):
    study = replace(STUDIES[slug], equal="flops")
    cells = [cell for cell in expand(study, base, seeds=[0]) if cell.arm != UNTRAINED]
    flops = {cell.arm: max_train_flops(cell.config, cell.config.budget.samples) for cell in cells}
    for cell in cells:
        batch = max_train_flops(cell.config, cell.config.budget.batch_size)
        assert abs(flops[cell.arm] - flops[study.baseline]) <= batch / 2


def test_equal_samples_leave_an_arms_own_samples(base):
    larger = replaced(base, {"budget.samples": 40_960})
    assert matched(larger, base, "samples", {}.get) == larger


def test_equal_seconds_give_half_the_samples_to_an_arm_half_as_fast(base):
    wide = replaced(base, {"model.decoder.width": 192})
    speed = {base: 100.0, wide: 50.0}
    assert matched(wide, base, "seconds", speed.get).budget.samples == base.budget.samples // 2
    with pytest.raises(UsageError, match="a machine that can train these models"):
        matched(wide, base, "seconds", {base: 100.0}.get)
