"""The keys of a search."""

import re

import pytest

from aimv2.base.errors import UsageError
from aimv2.sweeps.search.config import SearchConfig, search_config, search_values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "grid"}, "search.sampler: Input should be 'tpe', 'gp', "),
        ({"pruner": "med"}, "(got 'med'). Did you mean 'median'?"),
        ({"trials": 0}, "search.trials: Input should be greater than 0"),
        ({"trails": 3}, "trails"),
    ],
)
def test_values_that_are_not_allowed_are_refused_in_one_sentence(values, message):
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        search_config(search_values()["optuna"] | values)
    assert "\n" not in str(refused.value)


def test_the_choice_on_the_command_line_has_the_defaults():
    assert search_config(search_values()["optuna"]) == SearchConfig()
    assert search_values()["none"] == {}
