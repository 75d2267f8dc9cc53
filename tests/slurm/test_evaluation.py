"""An evaluation that is longer than its job: each job measures further parts, and none twice."""

import contextlib
import json
import os
import signal

import pytest

from aimv2.runs.lease import latest_attempt
from aimv2.runs.record import RunFolder

ARGUMENTS = ("launch.py", "sweep=prefix_ratio", "sweep.arms=[uniform]", "sweep.seeds=1", "budget.samples=320")
LONG = ("evaluation.num_items=2048", "evaluation.num_pairs=1024", "evaluation.num_probe_scenes=2048")
PARTS = "evaluation/*.safetensors"


@pytest.fixture(scope="module")
def interrupted(slurm, typed, wait_for, tmp_path_factory):
    """Return a run, and the names of the parts that each of its interrupted attempts had saved."""
    folder = tmp_path_factory.mktemp("evaluation")
    request = typed(folder, *ARGUMENTS, *LONG, "executor=slurm", "executor.minutes=30")
    assert request.returncode == 0, request.stdout + request.stderr
    first = wait_for(lambda: next(folder.glob(f"runs/v2-*/attempts/0001/{PARTS}"), None))
    run, found = RunFolder(folder / "runs", first.parents[3].name), []

    def saved():
        """Return the parts of the latest attempt once it has some; the run may be done before."""
        return run.is_done or sorted(path.name for path in latest_attempt(run.path).glob(PARTS))

    while (parts := wait_for(saved)) is not True:
        attempt = latest_attempt(run.path)
        with contextlib.suppress(ProcessLookupError):
            os.kill(json.loads((attempt / "holder.json").read_text())["pid"], signal.SIGUSR2)  # as before a time limit
        wait_for(lambda attempt=attempt: run.is_done or latest_attempt(run.path) != attempt)
        found.append(sorted(path.name for path in attempt.glob(PARTS)) or parts)
    slurm.wait_until_empty()
    return run, found


def test_the_evaluation_is_finished_by_later_jobs_and_no_part_is_measured_twice(interrupted):
    run, found = interrupted
    assert run.is_done
    names = [name for saved in found for name in saved]
    assert len(names) == len(set(names)) > 0
    assert len(run.result()["attempts"]) > 1
    assert not list(run.path.glob(f"attempts/*/{PARTS}"))


def test_the_result_is_that_of_an_uninterrupted_evaluation(interrupted, typed):
    run, _ = interrupted
    done = typed(run.path.parents[1], "manage.py", "replay", run.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to the last bit" in done.stdout
