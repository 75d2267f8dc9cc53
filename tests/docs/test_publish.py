"""The commands of docs/publish.md, in order, on a run and a study of half a second, by the code of the wheel."""

import re

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from tests.helpers.finished_sweeps import finished
from tests.helpers.pages import ROOT, commands

PAGE = ROOT / "docs" / "publish.md"
COMMANDS = {"sweeps/manage.py": "manage", "analysis/report.py": "report"}  # of the wheel
RUN = "v2-15b6f82b08fe"


@pytest.mark.exhaustive
def test_commands_work_one_after_the_other(tmp_path, cache_dir, succeeds):
    finished(tmp_path / "runs", cache_dir)
    cells = read_request(tmp_path / "runs", "prefix_ratio", STUDIES).cells
    name = next(cell.name for cell in cells if cell.arm == "uniform")
    typed = commands(PAGE)
    assert [words[2] for words in typed] == ["publish", "publish", "unpack", "prefix_ratio", "replay"]
    for words in typed:
        if "replay" in words:
            words = [*words, f"data.cache_dir={cache_dir}"]
        output = succeeds([COMMANDS[words[1]], *(re.sub(RUN, name, word) for word in words[2:])], tmp_path)
    assert "equal to the last bit" in output
    written = [path.name for path in (tmp_path / "others").iterdir() if path.name != "prefix_ratio"]
    assert len(written) == 3
    assert all(f"`{name}" in PAGE.read_text() for name in written)
