import pytest

from aimv2.ablations.design import RATES, wide
from aimv2.config.recipes.scales import SCALES


@pytest.mark.parametrize("scale", ["laptop", "vit_l_2b"])
@pytest.mark.parametrize("ratio", RATES)
def test_heads_keep_their_width_and_the_rate_is_that_of_the_ratio(scale, ratio):
    base = SCALES[scale]()
    run = wide(ratio).change(base)
    before, after = base.model.encoder, run.model.encoder
    assert after.width == ratio * before.width
    assert after.width / after.num_heads == before.width / before.num_heads
    assert after.depth == before.depth
    assert run.optimizer.peak_lr == pytest.approx(RATES[ratio] * base.optimizer.peak_lr)
    assert after.width % base.evaluation.probe.head_dim == 0, "the probe splits features into heads"


def test_the_base_itself_is_as_it_was():
    base = SCALES["laptop"]()
    assert wide(1).change(base) == base
