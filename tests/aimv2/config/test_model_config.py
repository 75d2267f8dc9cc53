import pytest

from aimv2.config.model_config import TransformerConfig


@pytest.mark.parametrize(
    ("width", "hidden"), [(1024, 2816), (1536, 4096), (2048, 5632), (3072, 8192), (768, 2048), (64, 256)]
)
def test_ffn_hidden_follows_the_released_rule(width, hidden):
    assert TransformerConfig(width=width, depth=1, num_heads=1).ffn_hidden == hidden
