"""Measurements as a file."""

import json

import pytest

from aimv2.analysis.costs.measurements import read_measurements, rounded, to_json
from aimv2.base.errors import UsageError
from tests.helpers.costs import measurements


def test_measurements_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "measurements.json"
    path.write_text(to_json(measurements()))
    assert read_measurements(path) == measurements()
    assert to_json(read_measurements(path)) == path.read_text()


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"there is no .*measurements.json; measure first"):
        read_measurements(tmp_path / "measurements.json")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        to_json(measurements()).replace('"depth": 24', '"depth": 0'),
        to_json(measurements()).replace('"version": 1', '"version": 2'),
        json.dumps({"version": 1}),
    ],
    ids=["cut", "list", "value", "version", "fields"],
)
def test_broken_file_is_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "measurements.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"measurements\.json") as caught:
        read_measurements(path)
    assert "\n" not in str(caught.value)


def test_timings_keep_five_digits():
    assert rounded([1.23456789, 0.000123456]) == [1.2346, 0.00012346]
