"""The number of heads, stated or not."""

import pytest
from aimv2.base.errors import UsageError
from aimv2.tools.weights.layout import num_heads


def test_stated_number_of_heads_is_taken_unchecked():
    assert num_heads("config.json", {"heads": "many"}, "heads", 100) == "many"


def test_missing_number_of_heads_is_that_of_heads_128_wide():
    assert num_heads("config.json", {}, "heads", 1024) == 8
    with pytest.raises(UsageError, match=r"config.json: the number of heads is unknown .* width 100 is not a multiple"):
        num_heads("config.json", {}, "heads", 100)
