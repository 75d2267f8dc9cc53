import pytest
import torch
from torch import nn

from aimv2.model.initial import init_weights_, normal, truncated_normal, uniform, xavier_uniform


class Leaf(nn.Module):
    """Two weights of equal shape, and one that is declared and absent."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.empty(40, 50))
        self.other = nn.Parameter(torch.empty(40, 50))

    def initial(self):
        return {"one": normal(0.5), "other": normal(0.5), "absent": normal(1)}


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.norm = Leaf(), Leaf(), nn.LayerNorm(8)


def drawn(distribution, *shape):
    tensor = torch.empty(shape)
    distribution(tensor, generator=torch.Generator().manual_seed(0))
    return tensor


def test_each_weight_has_its_own_address():
    pair = Pair()
    init_weights_(pair, seed=0)
    weights = [weight.detach() for weight in (pair.left.one, pair.left.other, pair.right.one, pair.right.other)]
    correlation = torch.corrcoef(torch.stack([weight.flatten() for weight in weights]))
    assert float((correlation - torch.eye(4)).abs().max()) < 0.1, "2,000 independent draws each"
    assert (pair.norm.weight == 1).all()
    assert (pair.norm.bias == 0).all()


def test_a_weight_depends_on_its_name_and_the_seed_alone():
    pair, holder = Pair(), nn.ModuleDict({"right": Leaf()})
    init_weights_(pair, seed=3)
    init_weights_(holder, seed=3)
    assert torch.equal(pair.right.other, holder["right"].other)
    init_weights_(holder, seed=4)
    assert not torch.equal(pair.right.other, holder["right"].other)


def test_a_weight_without_a_distribution_is_refused():
    with pytest.raises(AssertionError, match=r"no module declares the initial distribution of 1\.weight"):
        init_weights_(nn.Sequential(Leaf(), nn.Linear(2, 2)), seed=0)


@pytest.mark.parametrize("distribution", [normal(0.3), truncated_normal(0.3), uniform(0.3 * 3**0.5)])
def test_spread_is_the_declared_one(distribution):
    assert float(drawn(distribution, 200, 300).std()) == pytest.approx(0.3, rel=0.02)


def test_truncated_normal_is_cut_at_twice_its_width():
    values = drawn(truncated_normal(0.3), 200, 300).abs()
    assert float(values.max()) == pytest.approx(2 * 0.3 / 0.8796, rel=0.01)


def test_xavier_treats_fused_layers_as_separate_ones():
    """A fused matrix of three layers 20 x 40: each layer's bound is that of its own fans."""
    fused = drawn(xavier_uniform(num_fused=3), 60, 40)
    for layer in fused.chunk(3):
        assert float(layer.abs().max()) == pytest.approx((6 / 60) ** 0.5, rel=0.02)
    kernel = drawn(xavier_uniform(), 20, 10, 2, 2)
    assert float(kernel.abs().max()) == pytest.approx((6 / 60) ** 0.5, rel=0.02), "a kernel is flattened to 20 x 40"
