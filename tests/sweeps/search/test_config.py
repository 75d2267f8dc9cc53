"""The keys of a search."""

import re

import pytest
from optuna.trial import TrialState

from aimv2.base.errors import UsageError
from sweeps.search.config import STATES, SearchConfig, search_config, search_values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "grid"}, "unknown search.sampler 'grid'. Allowed: "),
        ({"pruner": "hyper"}, "unknown search.pruner 'hyper'. Did you mean 'hyperband'?"),
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


def test_each_state_of_optuna_has_a_name():
    assert set(STATES) == {state.name for state in TrialState}
