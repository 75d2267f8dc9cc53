"""The keys of a search."""

import re

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.arguments import checked
from sweeps.search.config import SEARCHES, SearchConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trials": 0}, "trials: Input should be greater than 0"),
        ({"sampler": "grid"}, "sampler: Input should be 'tpe', 'cmaes', 'gp', 'nsga2', 'qmc' or 'random'"),
        ({"pruner": "hyper"}, "pruner: Input should be 'auto', 'none', 'asha', 'hyperband', 'median' or 'wilcoxon'"),
        ({"metrics": ["content_loss", "content_loss"]}, "names a metric twice"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"trails": 3}, "trails"),
    ],
)
def test_values_that_are_not_allowed_are_refused_in_one_sentence(values, message):
    with pytest.raises(UsageError, match=f"^search: .*{re.escape(message)}"):
        checked("search", SearchConfig, values)


def test_the_choice_on_the_command_line_has_the_defaults():
    assert checked("search", SearchConfig, SEARCHES["optuna"]) == SearchConfig()
