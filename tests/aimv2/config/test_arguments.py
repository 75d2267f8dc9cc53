import pytest
from aimv2.base.errors import UsageError

from aimv2.config.arguments import checked, key_values


def test_checked_converts_to_the_type():
    assert checked("seeds", list[int], ["1", 2]) == [1, 2]


@pytest.mark.parametrize(("kind", "value"), [(bool, "maybe"), (list[int], "few"), (str, 2024)])
def test_checked_names_the_key_of_a_value_of_another_type(kind, value):
    with pytest.raises(UsageError, match=r"^the_key: Input should be a valid ") as caught:
        checked("the_key", kind, value)
    assert "\n" not in str(caught.value)


def test_key_values_maps_keys_to_values():
    assert key_values(["out=a=b", "run=x"], ["run", "out"]) == {"out": "a=b", "run": "x"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "cannot read 'run': arguments have the form key=value"),
        (["rum=x"], "unknown key 'rum'. Did you mean 'run'? Allowed: run."),
        (["run="], "run= has no value"),
        (["run=x", "run=x"], "run= is given twice; once is allowed"),
    ],
)
def test_key_values_refuses_other_forms(arguments, message):
    with pytest.raises(UsageError) as caught:
        key_values(arguments, ["run"])
    assert str(caught.value) == message
