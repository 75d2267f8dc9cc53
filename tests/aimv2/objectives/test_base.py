import pytest
import torch

from aimv2.objectives.base import visible_prefix
from tests.helpers.objectives import with_objective


@pytest.mark.parametrize(
    ("attention", "expected"), [("prefix", [3, 7, 16]), ("causal", [1, 1, 1]), ("bidirectional", None)]
)
def test_visible_prefix_follows_the_encoders_attention(tiny, attention, expected):
    found = visible_prefix(with_objective(tiny, "aimv2", attention=attention).model, torch.tensor([3, 7, 16]))
    assert (None if found is None else found.tolist()) == expected
