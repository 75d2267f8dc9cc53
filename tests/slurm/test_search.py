"""A search on a cluster, one of whose workers is preempted: every trial ends, and the winner is confirmed."""

import json
from collections import Counter

import pytest

from aimv2.ablations.study import WINNER
from aimv2.runs.lease import is_released, latest_attempt
from aimv2.runs.record import RunFolder

NAME = "loss_weight_search"
NUM_TRIALS = 6
ARGUMENTS = (
    *("launch.py", "sweep=loss_weight", "scale=demo", "search=optuna", f"search.trials={NUM_TRIALS}", "sweep.seeds=1"),
    *("executor=slurm", "executor.workers=2", "executor.minutes=5", "evaluation.curve_points=5"),
)


@pytest.fixture(scope="module")
def searched(slurm, typed, wait_for, tmp_path_factory):
    """The folder of the search, and the attempt that was preempted."""
    folder = tmp_path_factory.mktemp("search")
    done = typed(folder, *ARGUMENTS)
    assert done.returncode == 0, done.stdout + done.stderr

    def saved():
        found = filter(None, map(latest_attempt, folder.glob("runs/v2-*")))
        return next((one for one in found if any(one.glob("checkpoint/*")) and not is_released(one)), None)

    preempted = wait_for(saved)
    for node in ("n1", "n2"):
        where = ("--partition=urgent", "--account=lab", f"--nodelist={node}")
        slurm("sbatch", *where, "--output=/dev/null", "--wrap=sleep 3")
    slurm.wait_until_empty()
    return folder, preempted


@pytest.fixture(scope="module")
def outcome(searched):
    folder, _ = searched
    return json.loads((folder / "runs" / "searches" / f"{NAME}.json").read_text())


def test_the_preempted_trial_is_resumed(searched, outcome):
    _, preempted = searched
    run = preempted.parents[1]
    assert latest_attempt(run) != preempted
    states = {trial["run"]: trial["state"] for trial in outcome["trials"]}
    assert states.get(run.name, "finished") in ("finished", "pruned")


def test_every_trial_has_ended(outcome):
    assert [trial["number"] for trial in outcome["trials"]] == list(range(NUM_TRIALS))
    states = Counter(trial["state"] for trial in outcome["trials"])
    assert states["finished"] + states["pruned"] == NUM_TRIALS
    assert len({trial["run"] for trial in outcome["trials"]}) == NUM_TRIALS


def test_the_winner_is_confirmed_and_reported(searched, outcome):
    folder, _ = searched
    requests = [json.loads(path.read_text()) for path in folder.glob(f"runs/studies/{NAME}/*.json")]
    cells = max(requests, key=lambda one: one["time"])["cells"]
    expected = {"alpha_04"} if outcome["winner"] == 0 else {"alpha_04", WINNER}
    assert {cell["arm"] for cell in cells} == expected
    assert all(RunFolder(folder / "runs", cell["run"]).is_done for cell in cells)
    assert (folder / "reports" / NAME / "report.md").exists()
    assert not list(folder.glob("runs/launches/*"))
