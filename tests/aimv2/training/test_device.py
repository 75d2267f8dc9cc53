from dataclasses import replace

import pytest
import torch

from aimv2.training.device import autocast


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_have_the_runs_precision(tiny, precision, dtype):
    layer = torch.nn.Linear(3, 2)
    with autocast(replace(tiny, precision=precision)):
        assert layer(torch.ones(1, 3)).dtype == dtype
    assert layer.weight.dtype == torch.float32
