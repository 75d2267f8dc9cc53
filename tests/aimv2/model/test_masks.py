import pytest
import torch

from aimv2.model.masks import prefix_mask


@pytest.mark.parametrize("num_patches", [2, 5, 16])
def test_the_mask_is_the_obvious_loop(num_patches):
    patches, prefixes = range(num_patches), range(1, num_patches)
    expected_BLL = torch.tensor([[[k <= q or k < m for k in patches] for q in patches] for m in prefixes])
    torch.testing.assert_close(prefix_mask(torch.tensor(prefixes), num_patches)[:, 0], expected_BLL)
