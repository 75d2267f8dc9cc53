"""Whether a report is what its runs give now."""

import shutil
from dataclasses import replace

import pytest

from aimv2.analysis.report import build
from aimv2.analysis.stamps import is_current, keep_stamp
from tests.helpers.ladders import ladder_of, seeing, write_ladder


@pytest.fixture(scope="module")
def made(request_of, runs_dir, tmp_path_factory):
    """A folder with runs and the reports made from them; read only."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(runs_dir, folder / "runs")
    build(request_of, folder / "runs", folder / "reports")
    return folder


def changed_result(request, runs_dir, reports_dir):
    result = runs_dir / request.cells[0].name / "result.json"
    result.write_text(result.read_text() + "\n")


def lost_run(request, runs_dir, reports_dir):
    shutil.rmtree(runs_dir / request.cells[-1].name)


def other_sensitivity(request, runs_dir, reports_dir):
    write_ladder(reports_dir, ladder_of(seeing("content_loss"), request.cells[0].config))


def lost_page(request, runs_dir, reports_dir):
    (reports_dir / request.folder / "report.html").unlink()


def lost_figure(request, runs_dir, reports_dir):
    (reports_dir / request.folder / "figures" / "differences.svg").unlink()


def lost_index(request, runs_dir, reports_dir):
    (reports_dir / "index.md").unlink()


def forgotten(request, runs_dir, reports_dir):
    (runs_dir / "studies" / f"{request.folder}.reports.json").write_text("broken")


CHANGES = [changed_result, lost_run, other_sensitivity, lost_page, lost_figure, lost_index, forgotten]


@pytest.mark.exhaustive
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_report_is_current_until_something_changes(request_of, made, tmp_path, change):
    """Stamps are by the place of the reports, so that a copy is not current by itself."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    places = tmp_path / "runs", tmp_path / "reports"
    assert not is_current(request_of, *places)
    stamps = tmp_path / "runs" / "studies" / f"{request_of.folder}.reports.json"
    stamps.write_text(stamps.read_text().replace(str(made), str(tmp_path)))
    assert not is_current(request_of, *places), "the stamp names its files"
    keep_stamp(request_of, *places)
    assert is_current(request_of, *places)
    change(request_of, *places)
    assert not is_current(request_of, *places)


@pytest.mark.exhaustive
def test_the_report_of_another_request_or_of_other_runs_is_not_current(request_of, made, tmp_path):
    assert is_current(request_of, made / "runs", made / "reports")
    fewer = replace(request_of, cells=request_of.cells[:-1])
    assert not is_current(fewer, made / "runs", made / "reports")
    assert not is_current(request_of, tmp_path, made / "reports")
