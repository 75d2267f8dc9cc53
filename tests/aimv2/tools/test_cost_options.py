import pytest

from aimv2.base.errors import UsageError
from aimv2.config.arguments import read_options
from aimv2.tools.cost_options import PlanOptions, cost_usage


@pytest.mark.parametrize("typed", ["ranks=1,8", "ranks=[1,8]"])
def test_ranks_are_a_list_with_or_without_brackets(typed):
    assert read_options(PlanOptions, [typed]).ranks == (1, 8)


def test_ranks_are_positive():
    with pytest.raises(UsageError, match="ranks"):
        read_options(PlanOptions, ["ranks=0"])


def test_the_help_has_the_options_of_cost_and_the_values_of_a_run():
    text = cost_usage()
    assert text.startswith("usage: python -m aimv2 cost [key=value ...]\n")
    assert all(key in text for key in ("ranks=1,8,64", "gpu=80GB", "vit_3b"))
