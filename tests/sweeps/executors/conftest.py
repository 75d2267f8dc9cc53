from dataclasses import replace

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import Cell, expand
from aimv2.ablations.request import Request, write_request
from aimv2.sweeps.active_launches import Jobs, new_launch, write_jobs
from aimv2.sweeps.executors.slurm import FinalizerJob
from aimv2.sweeps.plan import Plan, write_work
from tests.helpers.slurm import EXECUTOR, on_path
from tests.helpers.sweeps import board_of


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """SLURM's commands, as scripts."""
    return on_path(monkeypatch, tmp_path / "bin")


@pytest.fixture
def request_of(tiny):
    """Make a request of a study without controls: the untrained encoder and these arms, at these seeds."""

    def make(arms=("uniform",), seeds=(0,)):
        study = replace(STUDIES["prefix_ratio"], controls=())
        cells = expand(study, tiny, arms=arms, seeds=seeds)
        return Request(study=study, cells=cells, arguments=("sweep=prefix_ratio",))

    return make


@pytest.fixture
def plan(tiny, tmp_path):
    return Plan("a test", [Cell(arm="one", seed=seed, config=replace(tiny, seed=seed)) for seed in (0, 1)], tmp_path)


@pytest.fixture
def small(request_of, tmp_path):
    """A request of two runs, saved as its study's last one, and its plan."""
    request = request_of()
    plan = Plan(request.folder, request.cells, tmp_path / "runs", (request,))
    write_request(plan.runs_dir, request)
    return request, plan


@pytest.fixture
def launched(small):
    """The folder of a launch of that request on SLURM: array 7 and finalizer job 8."""
    _, plan = small
    folder = new_launch(plan.runs_dir, plan.title, plan.runs)
    write_work(folder, plan.work(plan.runs))
    write_jobs(folder, Jobs({"7": len(plan.runs)}, "8", "here"))
    return folder


@pytest.fixture
def finalizer(small, launched, tmp_path):
    """The finalizer job of that launch."""
    return FinalizerJob(launched, small[1], EXECUTOR, tmp_path / "reports", poll_seconds=0.01)


@pytest.fixture
def launch(tmp_path):
    """Launch a request on SLURM."""

    def run(request, **more):
        plan = Plan(request.folder, request.cells, tmp_path / "runs", (request,))
        is_over = replace(EXECUTOR, **more).launch(
            plan, plan.work(plan.remaining()), tmp_path / "reports", board_of(plan)
        )
        assert not is_over
        return plan

    return run


@pytest.fixture
def submissions(slurm, tmp_path):
    """Return the submissions so far."""
    return lambda: slurm.submissions(tmp_path / "runs")
