"""The commands of docs/publish.md, in order, on a run and a study of half a second, by the code of the wheel."""

import re

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.base.files import read_json
from tests.helpers.finished_sweeps import finished
from tests.helpers.pages import ROOT, commands

PAGE = ROOT / "docs" / "publish.md"
COMMANDS = {"sweeps/manage.py": "manage", "analysis/report.py": "report"}  # of the wheel
RUN = "v2-15b6f82b08fe"
RECORDS = "prefix_ratio-69927590663b"


@pytest.fixture
def entered(tmp_path, succeeds):
    return lambda words: succeeds([COMMANDS[words[1]], *words[2:]], tmp_path)


@pytest.mark.exhaustive
def test_commands_work_one_after_the_other(entered, tmp_path, cache_dir):
    finished(tmp_path / "runs", cache_dir)
    cells = read_request(tmp_path / "runs", "prefix_ratio", STUDIES).cells
    names = {RUN: next(cell.name for cell in cells if cell.arm == "uniform")}
    typed = commands(PAGE)
    assert [words[2] for words in typed] == ["publish", "publish", "add", "replay", "all"]
    for words in typed:
        if "replay" in words:
            names[RECORDS] = next((tmp_path / "records").iterdir()).name
            words = [*words, f"data.cache_dir={cache_dir}"]
        output = entered([re.sub("|".join(names), lambda found: names[found[0]], word) for word in words])
        if "replay" in words:
            assert "equal to the last bit" in output
    assert read_json(tmp_path / "records" / names[RECORDS] / "status.json")["replayed"]
    assert "replayed: 1 of 2 runs" in (tmp_path / "reports" / "index.md").read_text()
    written = [path.name for path in (tmp_path / "hub" / "prefix_ratio").iterdir()]
    assert len(written) > 5
    assert all(f"`{name}" in PAGE.read_text() for name in written)
