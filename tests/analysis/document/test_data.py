import json
import math

from hypothesis import given
from hypothesis import strategies as st

from analysis.document.data import plain, to_json
from analysis.document.model import Bullets, Cell, Document, Paragraph, Section, Table


def test_json_has_text_cells_values_and_runs():
    table = Table(["a", "b"], [["1", Cell(("2", "[1, 3]"), ("v2-0",), "a note", 2.0)]], name="numbers")
    document = Document("t", "q", "c", [Section("s", [Paragraph("p"), Bullets(["x"]), table])], numbers={"n": 1})
    found = json.loads(to_json(document))
    assert (found["title"], found["question"], found["conclusion"], found["numbers"]) == ("t", "q", "c", {"n": 1})
    paragraph, bullets, numbers = found["sections"][0]["blocks"]
    assert (paragraph["text"], bullets["list"]) == ("p", ["x"])
    assert numbers["table"] == "numbers"
    assert numbers["rows"] == [["1", {"text": "2\n[1, 3]", "value": 2.0, "runs": ["v2-0"], "note": "a note"}]]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_lose_less_than_their_eighth_digit(value):
    assert math.isclose(plain(value), value, rel_tol=1e-7, abs_tol=1e-320)


def test_structures_keep_all_but_their_floats():
    values = {"n": 10**12, "name": "a", "all": (1.0, float("nan"), [float("inf"), None, True])}
    assert plain(values) == {"n": 10**12, "name": "a", "all": [1.0, None, [None, None, True]]}
    json.dumps(plain(values), allow_nan=False)
