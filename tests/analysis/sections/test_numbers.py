import json

import pytest

from aimv2.analysis.sections.numbers import numbers_of
from tests.helpers.documents import judged_again
from tests.helpers.evidence import evidence_by_class
from tests.helpers.specimen import STUDY


@pytest.fixture(scope="module")
def numbers(findings):
    return numbers_of(findings)


def test_numbers_are_those_of_the_findings(findings, numbers):
    difference = findings.comparisons["causal"].difference
    shown = numbers["comparisons"]["causal"]
    assert (shown["mean"], shown["low"], shown["high"]) == (difference.mean, difference.low, difference.high)
    assert (shown["n"], shown["level"], shown["unit"]) == (4, 0.975, "nats/token")
    assert set(shown["runs"]) == {cell.name for cell in findings.cells if cell.arm in ("causal", "uniform")}
    assert set(numbers["verdicts"]) == set(findings.verdicts)


def test_numbers_have_the_parts_of_a_difference(findings):
    some = evidence_by_class(STUDY, {("fixed_50", "content_loss_place"): 0.6}, {"ink": 700, "place": 300}, spread=0.01)
    compared = numbers_of(judged_again(findings, some))["comparisons"]
    parts = compared["fixed_50"]["classes"]
    whole = sum(parts["shares"][name] * one["mean"] for name, one in parts["differences"].items())
    assert whole == pytest.approx(compared["fixed_50"]["mean"], abs=1e-6)
    assert (parts["most"], parts["without_most"]["mean"]) == (["place"], pytest.approx(0, abs=0.02))
    assert compared["fixed_25"]["classes"]["without_most"] is None


def test_numbers_are_json(numbers):
    assert json.loads(json.dumps(numbers, allow_nan=True))["study"]["baseline"] == "uniform"
