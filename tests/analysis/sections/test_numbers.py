import json

import pytest

from aimv2.analysis.sections.numbers import numbers_of


@pytest.fixture(scope="module")
def numbers(findings):
    return numbers_of(findings)


def test_numbers_are_those_of_the_findings(findings, numbers):
    difference = findings.comparisons["causal"].difference
    shown = numbers["comparisons"]["causal"]
    assert (shown["mean"], shown["low"], shown["high"]) == (difference.mean, difference.low, difference.high)
    assert (shown["n"], shown["level"], shown["unit"]) == (4, 0.975, "nats/token")
    assert numbers["means"]["content_loss"]["uniform"]["mean"] == pytest.approx(3, abs=0.05)
    assert set(numbers["verdicts"]) == set(findings.verdicts)


def test_numbers_are_json(numbers):
    assert json.loads(json.dumps(numbers, allow_nan=True))["study"]["baseline"] == "uniform"
