"""The report of a cost study, on made-up measurements."""

import json

import pytest

from aimv2.analysis.costs.document import conclusion, document
from aimv2.analysis.costs.measurements import read_measurements
from aimv2.analysis.document.pages import to_markdown
from aimv2.analysis.document.write import write
from tests.helpers.costs import measurements


def test_conclusion_has_every_resolution_and_every_timed_scale():
    found = "\n".join(conclusion(measurements()))
    assert "relative to AIMv2 at 256 patches, bfloat16 and batch 4: CLIP ViT-L/14 1.25 [1.25, 1.25], SigLIP" in found
    assert "at 576 patches" in found
    assert "relative to `aimv2` at `demo`: `clip` 0.50 [0.50, 0.50]." in found
    assert "`vit_l`" not in found, "it is not timed"


def test_answer_is_the_first_resolution_in_short():
    found = document(measurements()).answer
    assert found.startswith("An image of 256 patches takes CLIP 1.25, ")
    assert found.endswith(" times as long as AIMv2.")


def test_page_says_where_and_how_it_was_measured():
    page = to_markdown(document(measurements()))
    assert "Measured on A\\_machine, 2 threads, torch 2.13.0, timm 1.0." in page
    assert "50% to 75% of the time of its threads; the load average before was 1.5." in page
    assert "Times are CPU seconds" not in page
    assert "Times are CPU seconds" in to_markdown(document(measurements(clock="cpu")))
    assert "a depth of 24" in to_markdown(document(measurements()))


@pytest.mark.exhaustive
def test_the_same_measurements_give_the_same_files(tmp_path):
    write(document(measurements()), tmp_path / "one")
    write(document(read_measurements(tmp_path / "one" / "measurements.json")), tmp_path / "two")
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert {"measurements.json", "report.md", "report.html", "report.json"} <= set(map(str, names))
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_numbers_are_plain_json():
    numbers = json.loads(json.dumps(document(measurements()).numbers))
    assert (numbers["clock"], numbers["depth"], numbers["machine"]["threads"]) == ("wall", 24, 2)
