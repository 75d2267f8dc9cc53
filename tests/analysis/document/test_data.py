import json
import math

from hypothesis import given
from hypothesis import strategies as st

from aimv2.analysis.document.data import plain, to_json
from aimv2.analysis.document.model import Document, Section


def test_json_has_the_findings():
    found = json.loads(to_json(Document("t", "q", "c", [Section("s", [])], numbers={"n": 1.0}), ["a", "b"]))
    assert found.pop("files") == ["a", "b"]
    assert found == {"version": 4, "title": "t", "answer": "c", "numbers": {"n": 1.0}}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_lose_less_than_their_eighth_digit(value):
    assert math.isclose(plain(value), value, rel_tol=1e-7, abs_tol=1e-320)


def test_structures_keep_all_but_their_floats():
    values = {"n": 10**12, "name": "a", "all": (1.0, float("nan"), [float("inf"), None, True])}
    assert plain(values) == {"n": 10**12, "name": "a", "all": [1.0, None, [None, None, True]]}
    json.dumps(plain(values), allow_nan=False)
