import json
import math

from hypothesis import given
from hypothesis import strategies as st

from analysis.document.digits import plain


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_lose_less_than_their_eighth_digit(value):
    assert math.isclose(plain(value), value, rel_tol=1e-7, abs_tol=1e-320)


def test_numbers_that_differ_in_their_last_digits_are_one():
    assert plain(0.1 + 0.2) == plain(0.3) == 0.3
    assert plain(0.044882848585809806) == plain(0.04488284858580979)


def test_structures_keep_all_but_their_floats():
    values = {"n": 10**12, "name": "a", "all": (1.0, float("nan"), [float("inf"), None, True])}
    assert plain(values) == {"n": 10**12, "name": "a", "all": [1.0, None, [None, None, True]]}
    json.dumps(plain(values), allow_nan=False)
