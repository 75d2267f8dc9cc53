import pytest
import torch

from aimv2.base.errors import UsageError
from aimv2.config.paths import replaced
from aimv2.objectives.build import build
from aimv2.request.compose import compose, run_config
from aimv2.spec.optimizers import REGISTRY
from aimv2.training.optimizer import build_optimizer


@pytest.mark.parametrize("name", REGISTRY)
def test_an_optimizer_holds_as_many_moments_as_its_specification_says(name, tiny):
    config = replaced(tiny, {"optimizer.name": name})
    model = build(config)
    optimizer = build_optimizer(model, config.optimizer)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    sizes = sum(parameter.numel() for parameter in model.parameters())
    state = [value for one in optimizer.state.values() for key, value in one.items() if key != "step"]
    assert sum(value.numel() for value in state) == REGISTRY[name].num_moments * sizes
    assert {value.dtype for value in state} <= {torch.float32}


def test_another_optimizer_names_another_run_and_an_unknown_one_is_refused(tiny):
    assert replaced(tiny, {"optimizer.name": "other"}).name != tiny.name
    with pytest.raises(UsageError, match=r"unknown optimizer.name 'adam'. Did you mean 'adamw'\?"):
        run_config(compose(["optimizer.name=adam"], defaults={}))
