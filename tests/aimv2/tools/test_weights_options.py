import pytest

from aimv2.tools.weights_options import weights_usage


@pytest.mark.parametrize(
    ("arguments", "shown"), [([], ["import", "export"]), (["export"], ["export"]), (["fly"], ["import", "export"])]
)
def test_the_help_is_that_of_the_named_action_or_of_all(arguments, shown):
    lines = [line for line in weights_usage(arguments).splitlines() if line.startswith("usage:")]
    assert lines == [f"usage: python -m aimv2 weights {name} from=PATH to=FOLDER [key=value ...]" for name in shown]
