import pytest

from aimv2.config.evaluation_config import ReaderConfig


def test_reader_width_must_have_whole_heads():
    with pytest.raises(ValueError, match="width=40 is not a multiple of 16"):
        ReaderConfig(width=40)
