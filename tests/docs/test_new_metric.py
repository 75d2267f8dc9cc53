"""The metric of docs/extend.md on finished runs, as docs/sweeps.md types it."""

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.base.plugins import using
from aimv2.runs.record import RunFolder
from aimv2.sweeps import manage
from tests.helpers.finished_sweeps import finished
from tests.helpers.pages import NEW_FILE, ROOT, commands

PAGE, EXTEND = ROOT / "docs" / "sweeps.md", ROOT / "docs" / "extend.md"


@pytest.mark.exhaustive
def test_metric_of_the_page_is_measured_of_finished_runs(tmp_path, cache_dir, monkeypatch, capsys):
    source = dict(NEW_FILE.findall(EXTEND.read_text()))["rank.py"]
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "runs", cache_dir, "reports_dir=reports")
    (tmp_path / "rank.py").write_text(source)
    (words,) = [
        words[2:] for words in commands(PAGE) if words[1:3] == ["sweeps/manage.py", "measure"] and "rank" in str(words)
    ]
    for _ in range(2):
        assert manage.main(words) == 0
    assert "2 runs, 0 to do" in capsys.readouterr().out, "they are measured once"
    with using([tmp_path / "rank.py"]):
        for cell in read_request(tmp_path / "runs", "prefix_ratio", STUDIES).cells:
            value = RunFolder(tmp_path / "runs", cell.name).result()["metrics"]["effective_rank"]["value"]
            assert 1 <= value <= cell.config.model.encoder.width, (
                "the exponential of an entropy over as many dimensions"
            )
    assert "effective_rank" in (tmp_path / "reports/prefix_ratio/report.md").read_text()
