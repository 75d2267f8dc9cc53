"""The end of a launch."""

from dataclasses import replace

import pytest
from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import read_request, write_request
from aimv2.sweeps.finish import finish
from aimv2.sweeps.plan import Plan


@pytest.fixture
def ended(copied, tmp_path):
    """Finish a launch of a finished sweep's runs, and of these cells; return the outcome and what was printed."""

    def run(more=(), own=()):
        request = read_request(copied, "prefix_ratio", STUDIES)
        plan = Plan(request.folder, [*request.cells, *more], copied, (request,))
        console = Console(record=True, width=200)
        is_complete = finish(plan, plan.work(own), tmp_path / "reports", console)
        assert "report: " in console.export_text(clear=False)
        assert (tmp_path / "reports" / "prefix_ratio" / "report.md").exists()
        return is_complete, console.export_text()

    return run


def test_a_launch_whose_runs_are_done_is_complete(ended):
    is_complete, printed = ended()
    assert is_complete
    assert "missing" not in printed


@pytest.mark.exhaustive
def test_runs_that_the_launch_did_not_have_do_not_fail_it(ended, copied):
    """As of a retry, which has failed runs only."""
    cell = read_request(copied, "prefix_ratio", STUDIES).cells[0]
    other = replace(cell, seed=7, config=replace(cell.config, seed=7))
    is_complete, printed = ended([other])
    assert is_complete
    assert "runs that are still missing: 1; launch the sweep again to execute them" in printed
    is_complete, printed = ended([other], own=[other.name])
    assert not is_complete
    assert f"seed 7 ({other.name}) not done" in printed
    assert "still missing" not in printed


@pytest.mark.exhaustive
def test_a_broken_result_fails_the_launch_and_the_report_shows_it(ended, copied, tmp_path):
    cell = read_request(copied, "prefix_ratio", STUDIES).cells[0]
    (path := copied / cell.name / "result.json").write_text("broken")
    is_complete, printed = ended()
    assert not is_complete
    assert f"{path} is not the result of a run; delete {path.parent} to repeat the run" in printed
    report = (tmp_path / "reports" / "prefix_ratio" / "report.md").read_text()
    assert "result.json is not the result of a run" in report


@pytest.mark.exhaustive
def test_reports_are_written_in_the_order_of_the_requests(copied, tmp_path):
    """The second reads what the first has found."""
    request = read_request(copied, "prefix_ratio", STUDIES)
    other = replace(request, study=replace(request.study, suffix="first"))
    write_request(copied, other)
    plan, console = Plan(request.folder, request.cells, copied, (other, request)), Console(record=True, width=200)
    assert finish(plan, plan.work([]), tmp_path / "reports", console)
    lines = [line for line in console.export_text().splitlines() if line.startswith("report: ")]
    assert lines == [f"report: {tmp_path / 'reports' / one.folder / 'report.md'}" for one in (other, request)]
