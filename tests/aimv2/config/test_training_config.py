import pytest

from aimv2.config.training_config import BudgetConfig


@pytest.mark.parametrize(("samples", "batch_size", "nearest"), [(10, 4, "8 and 12"), (3, 16, "0 and 16")])
def test_samples_are_whole_batches(samples, batch_size, nearest):
    with pytest.raises(ValueError, match=f"samples={samples} is not a multiple .* nearest are {nearest}"):
        BudgetConfig(samples=samples, batch_size=batch_size)
    assert BudgetConfig(samples=3 * batch_size, batch_size=batch_size).num_steps == 3
