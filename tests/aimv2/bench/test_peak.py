import pytest
import torch

from aimv2.bench.peak import peak_bytes


def test_peak_is_of_the_tensors_that_exist_together():
    before = torch.ones(10**6)

    def call():
        two = before + 1, before + 2
        del two
        return before + 3

    assert peak_bytes(call) == pytest.approx(8 * 10**6, rel=1e-3)
