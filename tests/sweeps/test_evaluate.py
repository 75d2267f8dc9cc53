"""``manage.py evaluate``, as it is typed: a metric of a plug-in, of each finished run, once."""

import shutil

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.report import build
from aimv2.base.errors import UsageError
from aimv2.base.plugins import using
from aimv2.runs.record import RunFolder
from aimv2.sweeps import manage
from aimv2.sweeps.launch import launch
from tests.helpers.finished_sweeps import finished, small_arguments
from tests.helpers.metrics import metric_file


@pytest.fixture(scope="module")
def measurable(tmp_path_factory, cache_dir):
    """Return the runs folder of a finished sweep of one run and its untrained encoder, with reports beside it."""
    runs_dir = tmp_path_factory.mktemp("measurable") / "runs"
    finished(runs_dir, cache_dir, "reports_dir=reports")
    return runs_dir


@pytest.fixture
def copied(measurable, tmp_path):
    """Return a copy of it, to change."""
    return shutil.copytree(measurable, tmp_path / "runs")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run a command in a folder; gives its exit status and its output as one line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        with using([]):  # as in a process of its own
            status = manage.main(arguments)
        shown = capsys.readouterr()
        return status, " ".join((shown.out + shown.err).split())

    return run


def request_of(runs_dir):
    return read_request(runs_dir, "prefix_ratio", STUDIES)


def measuring(runs_dir):
    """Return the folders of the runs that measure metrics of the study's runs, by arm and metric."""
    request = request_of(runs_dir)
    cells = [cell for metric in request.metrics for cell in metric.cells(request.cells)]
    return {cell.arm: RunFolder(runs_dir, cell.name) for cell in cells}


@pytest.mark.exhaustive
def test_each_finished_run_is_measured_once_and_reported(copied, tmp_path, command):
    metric_file(tmp_path, "spread")
    before = {path: path.read_bytes() for path in copied.glob("v2-*/attempts/**/*") if path.is_file()}
    status, shown = command("evaluate", "prefix_ratio", "metric=spread.py:spread", "dry_run=true")
    assert status == 0
    assert "prefix_ratio: spread of spread.py:spread in share, higher is better; evaluation " in shown
    assert "2 finished runs, 2 to measure price: at most 0.00e+00 training FLOPs; 0.0 MB of weights; " in shown
    assert not (copied / "studies/prefix_ratio/metrics").exists(), "a dry run records nothing"

    status, shown = command("evaluate", "prefix_ratio", "metric=spread.py:spread")
    assert status == 0, shown
    assert "2 runs done in" in shown
    runs = measuring(copied)
    assert set(runs) == {"uniform: spread", "untrained: spread"}
    found = {arm.partition(":")[0]: run.result()["metrics"]["spread"]["value"] for arm, run in runs.items()}
    request = request_of(copied)
    bill = load(request.cells, copied, request.metrics).bill
    assert set(bill["arm"]) == {"uniform", "untrained", *runs}, "what it took is in the bill"
    details = (tmp_path / "reports/prefix_ratio/report.md").read_text()
    (spread,) = (line for line in details.splitlines() if line.startswith("| spread<br>[share]"))
    for value in found.values():
        assert f"| {value:.3f} (no interval)" in spread
    assert {path: path.read_bytes() for path in before} == before, "the finished runs are as they were"

    status, shown = command("evaluate", "prefix_ratio", "metric=spread.py:spread")
    assert (status, [run.num_attempts for run in runs.values()]) == (0, [1, 1]), "each is measured once"
    assert "2 finished runs, 0 to measure report: " in shown
    assert shown.endswith("report.md")


@pytest.mark.exhaustive
def test_an_edited_metric_is_another_evaluation_and_the_old_one_is_kept(copied, tmp_path, command):
    metric_file(tmp_path, "spread")
    assert command("evaluate", "prefix_ratio", "metric=spread.py:spread")[0] == 0
    old = measuring(copied)
    kept = {run.name: run.result() for run in old.values()}
    metric_file(tmp_path, "spread", "# edited")
    status, shown = command("evaluate", "prefix_ratio", "metric=spread.py:spread")
    assert status == 0
    assert "2 to measure" in shown
    new = measuring(copied)
    assert {run.name for run in new.values()}.isdisjoint(kept)
    assert {run.name: run.result() for run in old.values()} == kept
    (digest,) = {metric.digest for metric in request_of(copied).metrics}
    assert digest in (tmp_path / "reports/prefix_ratio/report.md").read_text()
    metric_file(tmp_path, "spread")
    assert "0 to measure" in command("evaluate", "prefix_ratio", "metric=spread.py:spread")[1]
    assert {run.name for run in measuring(copied).values()} == set(kept), "the report has the last one that was named"


@pytest.mark.exhaustive
def test_a_failing_metric_is_one_sentence_and_a_mended_one_is_measured(copied, tmp_path, command):
    metric_file(tmp_path, "raises")
    status, shown = command("evaluate", "prefix_ratio", "metric=raises.py:raises")
    assert status == 1
    assert "failed, bug: metric raises: ValueError: no such layer" in shown
    assert "Traceback" not in shown
    assert {run.state() for run in measuring(copied).values()} == {"failed"}
    assert all(RunFolder(copied, cell.name).is_done for cell in request_of(copied).cells)
    report = (tmp_path / "reports/prefix_ratio/report.md").read_text()
    assert "raises" not in report, "what no run has is no part of the study"
    shown = command("status")[1]
    assert "metric raises: ValueError: no such layer" in shown
    assert "single runs" not in shown
    (tmp_path / "raises.py").write_text((tmp_path / "raises.py").read_text().replace("raise ValueError", "return len"))
    assert command("evaluate", "prefix_ratio", "metric=raises.py:raises")[0] == 0
    assert "lack raises" not in (tmp_path / "reports/prefix_ratio/report.md").read_text()
    assert "raises" not in command("status")[1].replace("raises.py", ""), "all that the report has is done"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "which metric? Name a function of a plug-in's file: metric=my.py:cka"),
        (("metric=gone.py:cka",), "gone.py: there is no such file"),
        (("metric=spread.py:cka",), "unknown metric of spread.py 'cka'. Allowed: spread."),
        (("metric=spread.py:spread", "limit=1ms"), "limit=1ms: cannot read"),
        (("metric=spread.py:spread", "limit=0.000001s"), "nothing was started"),
        (("metric=spread.py:spread", "optimizer.peak_lr=1"), "key of evaluate 'optimizer.peak_lr'"),
    ],
)
def test_bad_requests_are_one_sentence(copied, tmp_path, command, words, message):
    metric_file(tmp_path, "spread")
    status, shown = command("evaluate", "prefix_ratio", *words)
    assert status == 2
    assert message in shown.replace(str(tmp_path) + "/", "")
    assert measuring(copied) == {}


@pytest.mark.exhaustive
def test_runs_that_cannot_be_measured_are_counted(copied, tmp_path, command):
    metric_file(tmp_path, "spread")
    trained, untrained = (RunFolder(copied, cell.name) for cell in request_of(copied).cells)
    trained.file("weights.safetensors").unlink()
    status, shown = command("evaluate", "prefix_ratio", "metric=spread.py:spread")
    assert status == 0
    assert "1 finished run, 1 to measure note: 1 other run of the study: their weights are gone" in shown
    shutil.rmtree(untrained.path)
    shutil.rmtree(copied / "index")
    status, shown = command("evaluate", "prefix_ratio", "metric=spread.py:spread")
    assert status == 2
    assert "cannot be measured on any run of prefix_ratio: their weights are gone (1); not done (1)" in shown


@pytest.mark.exhaustive
def test_the_report_of_runs_with_and_without_the_metric_names_the_command(copied, cache_dir, tmp_path, command):
    """One launch is measured, and a later one adds a seed, which lacks the metric."""
    metric_file(tmp_path, "ratio")
    assert command("evaluate", "prefix_ratio", "metric=ratio.py:ratio")[0] == 0
    assert launch([*small_arguments(copied, cache_dir, "sweep.seeds=2", "reports_dir=reports")]) == 0
    page = tmp_path / "reports/prefix_ratio/report.md"
    assert "2 of 4 finished runs lack ratio: uniform on 1..I-1 (seed 1); untrained (seed 1)." in page.read_text()
    typed = "python sweeps/manage.py evaluate prefix_ratio metric=ratio.py:ratio"
    assert f"`{typed}`" in page.read_text()
    status, shown = command(*typed.split()[2:])
    assert status == 0
    assert "4 finished runs, 2 to measure" in shown
    assert "What is missing" not in page.read_text() or "lack ratio" not in page.read_text()


@pytest.mark.exhaustive
def test_a_study_may_compare_a_metric_that_was_measured_later(copied, cache_dir, tmp_path, command):
    """The way that ended in a report without a reason before."""
    arguments = small_arguments(copied, cache_dir, "sweep.primary_metric=late", "reports_dir=reports")
    with pytest.raises(UsageError, match=r"unknown sweep\.primary_metric 'late'"):
        launch(arguments)
    metric_file(tmp_path, "late")
    assert command("evaluate", "prefix_ratio", "metric=late.py:late")[0] == 0
    assert launch(arguments) == 0
    runs = measuring(copied)
    text = (tmp_path / "reports/prefix_ratio/report.md").read_text()
    assert "The primary metric is late in share; higher is better." in text
    assert "It was chosen after the runs." in text
    for run in runs.values():
        shutil.rmtree(run.path)
    request = request_of(copied)
    answer = build(request, copied, tmp_path / "reports").read_text()
    assert "Nothing is compared yet, as 2 of 2 finished runs lack late." in answer
    assert "`python sweeps/manage.py evaluate prefix_ratio metric=late.py:late`" in answer
