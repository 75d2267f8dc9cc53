import pytest
from pydantic import ValidationError

from aimv2.config.training_config import BudgetConfig, LogConfig


@pytest.mark.parametrize(("samples", "batch_size", "nearest"), [(10, 4, "8 and 12"), (3, 16, "0 and 16")])
def test_samples_are_whole_batches(samples, batch_size, nearest):
    with pytest.raises(ValueError, match=f"samples={samples} is not a multiple .* nearest are {nearest}"):
        BudgetConfig(samples=samples, batch_size=batch_size)
    assert BudgetConfig(samples=3 * batch_size, batch_size=batch_size).num_steps == 3


@pytest.mark.parametrize("uri", ["", "nonsense", "http://ada:secret@tracker/"])
def test_a_tracking_uri_that_is_none_or_has_a_login_is_refused(uri):
    with pytest.raises(ValidationError, match=r"is not a tracking URI|has a login; set MLFLOW_TRACKING_USERNAME"):
        LogConfig(mlflow=uri)
    assert LogConfig(mlflow="sqlite:///mlflow.db").mlflow
