import pytest
from pydantic import ValidationError

from aimv2.config.log_config import LogConfig


@pytest.mark.parametrize("uri", ["", "nonsense", "http://ada:secret@tracker/"])
def test_a_tracking_uri_that_is_none_or_has_a_login_is_refused(uri):
    with pytest.raises(ValidationError, match=r"is not a tracking URI|has a login; set MLFLOW_TRACKING_USERNAME"):
        LogConfig(mlflow=uri)
    assert LogConfig(mlflow="sqlite:///mlflow.db").mlflow
