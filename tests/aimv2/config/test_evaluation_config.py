import pytest

from aimv2.config.evaluation_config import EvaluationConfig


def test_constructor_checks_values():
    with pytest.raises(ValueError, match="prefix_fractions"):
        EvaluationConfig(prefix_fractions=(0.0,))
