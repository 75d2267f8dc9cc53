"""docs/another-model.md, followed in an empty folder."""

import re
import shlex

import pytest

from aimv2.base.files import read_json
from tests.helpers.pages import NEW_FILE, ROOT, lines

PAGE = ROOT / "docs" / "another-model.md"
COMMANDS = list(dict.fromkeys(line for line in lines(PAGE) if line.startswith("aimv2 ")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("another")
    ((name, text),) = NEW_FILE.findall(PAGE.read_text())
    (folder / name).write_text(text)
    assert len(text.splitlines()) <= 60
    return folder


@pytest.fixture(scope="module")
def entered(folder, succeeds):
    """A function that types a command of the page in that folder, and returns its output."""

    return lambda line: succeeds(shlex.split(line)[1:], folder)


def results(folder):
    return {path.parent.name: read_json(path) for path in folder.glob("runs/v2-*/result.json")}


@pytest.mark.exhaustive
def test_a_plan_shows_arms_and_controls(entered):
    plan = entered(next(line for line in COMMANDS if "dry_run=true" in line))
    assert "positive_control: shuffled=True" in plan
    assert "40 runs, 40 to do" in plan


@pytest.mark.exhaustive
def test_another_model_is_swept_once_and_judged(entered, folder):
    plain, planned, longer, extended, reported = COMMANDS
    assert "40 runs, 40 to do" in entered(planned)
    entered(plain)
    first = results(folder)
    assert len(first) == 40
    assert "40 runs, 0 to do" in entered(plain), "each run once"
    report = (folder / "reports/perceptron_width/report.md").read_text()
    assert re.search(r"\| 8 units \| worse \| worse<br>supported \| -0\.\d+ \[-0\.\d+, -0\.\d+\] \|", report)
    assert "shuffled targets: **passed**" in report
    entered(longer)
    assert (folder / "reports/perceptron_width_longer/report.md").exists()
    assert len(results(folder)) == 80, "other epochs are other runs"
    entered(extended)
    assert "10 seeds" in (folder / "reports/perceptron_width/report.md").read_text()
    assert entered(reported).strip().endswith("reports/perceptron_width/report.md")
    assert {name: results(folder)[name] for name in first} == first, "nothing was done again"
