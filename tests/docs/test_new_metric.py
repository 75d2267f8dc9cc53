"""The example of a new metric on finished runs (docs/sweeps.md), as its page writes it."""

import shlex

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.base.plugins import using
from aimv2.runs.record import RunFolder
from aimv2.sweeps import manage
from tests.helpers.finished_sweeps import finished
from tests.helpers.pages import ROOT, blocks, commands

PAGE = ROOT / "docs" / "sweeps.md"


@pytest.mark.exhaustive
def test_metric_of_the_page_is_measured_of_finished_runs(tmp_path, cache_dir, monkeypatch, capsys):
    (source,) = (text for text in blocks(PAGE, ["python"]) if "def cka(" in text)
    assert 20 <= len(source.splitlines()) <= 30
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "runs", cache_dir, "reports_dir=reports")
    (tmp_path / "cka.py").write_text(source)
    typed = [words[2:] for words in commands(PAGE) if words[1:3] == ["sweeps/manage.py", "evaluate"]]
    assert len(typed) == 4
    for words in typed:
        words = [
            word for word in words if not word.startswith("executor.workers")
        ]  # of the debug executor there is one
        with using([]):
            assert manage.main(words) == 0, shlex.join(words)
    assert "2 finished runs, 0 to measure" in capsys.readouterr().out
    request = read_request(tmp_path / "runs", "prefix_ratio", STUDIES)
    (metric,) = request.metrics
    for cell in metric.cells(request.cells):
        value = RunFolder(tmp_path / "runs", cell.name).result()["metrics"]["cka"]["value"]
        assert 0 <= value <= 1, "by the inequality of Cauchy and Schwarz, and no product of such matrices is negative"
    assert "cka" in (tmp_path / "reports/prefix_ratio/report.md").read_text()
