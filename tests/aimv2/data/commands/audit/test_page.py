import numpy as np
import pytest
from aimv2.tools.data.audit.findings import Part
from aimv2.tools.data.audit.page import figure, in_bytes, number, share
from aimv2.tools.data.audit.survey import FACT, NO_PROBLEM


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234567, "1,234,567"), (1.25, "1.25"), (0.5123, "0.512"), (12345.6, "12,346")]
)
def test_numbers_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 3, "33.3 %"),
        (1, 10**6, "< 0.01 %"),
        (10**6 - 1, 10**6, "> 99.99 %"),
        (0, 0, "–"),
    ],
)
def test_shares_are_not_rounded_to_none_or_all(part, whole, text):
    assert share(part, whole) == text


@pytest.mark.parametrize(("value", "text"), [(5, "5 B"), (1500, "1.5 kB"), (2.5e7, "25 MB"), (3e15, "3e+03 TB")])
def test_sizes_have_units(value, text):
    assert in_bytes(value) == text


@pytest.mark.parametrize("num", [0, 1, 50])
@pytest.mark.parametrize("kinds", [(), ("short", "dense")])
def test_figures_are_drawn_for_any_number_of_samples(num, kinds):
    fact_N = np.zeros(num, FACT)
    fact_N["problem"] = NO_PROBLEM
    fact_N["caption_problem"] = NO_PROBLEM
    fact_N["width"], fact_N["height"] = np.arange(num) + 1, 7
    assert figure([Part("mine", "train", num, fact_N)], kinds).startswith("data:image/svg+xml;base64,")
