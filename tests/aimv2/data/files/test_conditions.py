import pytest
from aimv2.datasets.conditions import is_one_of, meets
from aimv2.datasets.description import Filter


@pytest.mark.parametrize(
    ("value", "condition", "met"),
    [
        (True, {"any_of": [True]}, True),
        (1, {"any_of": [True]}, False),
        (True, {"any_of": [1]}, False),
        ("true", {"any_of": [True]}, True),
        ("7", {"any_of": [7]}, True),
        (7, {"any_of": ["7"]}, False),
        ("007", {"any_of": [7]}, False),
        ("1e3", {"min": 1000}, True),
        (True, {"min": 0}, False),
        (float("nan"), {"min": 0}, False),
        ([3], {"min": 0}, False),
        (None, {"any_of": [1]}, False),
    ],
)
def test_text_meets_conditions_as_its_number_and_truth_is_no_number(value, condition, met):
    assert meets(value, Filter(**condition)) is met


@pytest.mark.parametrize(("number", "met"), [(0.99, False), (1, True), (1.5, True), (2, True), (2.01, False)])
def test_limits_are_allowed_values(number, met):
    assert meets(number, Filter(min=1, max=2)) is met
    assert meets(str(number), Filter(min=1, max=2)) is met


def test_a_number_too_large_for_a_float_meets_no_limit():
    assert not meets(10**400, Filter(min=0))


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "", 1.5])
def test_other_values_are_none_of_those_allowed(value):
    assert not is_one_of(value, (1, "a", True))
