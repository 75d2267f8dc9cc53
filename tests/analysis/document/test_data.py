import json

from analysis.document.data import to_json
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


def test_values_that_are_not_finite_are_null():
    document = Document("t", "q", "c", [], numbers={"low": float("nan"), "all": [float("inf"), 1.0]})
    assert json.loads(to_json(document))["numbers"] == {"low": None, "all": [None, 1.0]}
