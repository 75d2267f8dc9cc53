"""docs/tutorials/own-cluster.md on a real SLURM, from the question whether it accepts the jobs to the report."""

import shlex

from tests.helpers.pages import ROOT, commands

PAGE = ROOT / "docs" / "tutorials" / "own-cluster.md"
SCRIPTS = {"aimv2.sweeps.launch": "launch.py", "aimv2.sweeps.manage": "manage.py"}
ONE_SEED = ("sweep.seeds=1", "sweep.arms=[uniform,causal]")


def test_the_tutorials_launch_is_accepted_watched_and_reported(slurm, typed, tmp_path):
    steps = {shlex.join(words): words for words in commands(PAGE)}
    asked, launched = (
        next(words for words in steps.values() if "executor=slurm" in words and key in words)
        for key in ("dry_run=true", "executor.workers=8")
    )
    for words, answer in ((asked, "training FLOPs"), (launched, "finalizer job")):
        done = typed(tmp_path, SCRIPTS[words[2]], *words[3:], *ONE_SEED)
        assert done.returncode == 0, done.stderr
        assert answer in done.stdout
    status = next(words for words in steps.values() if words[2:4] == ["aimv2.sweeps.manage", "status"])
    slurm.wait_until_empty()
    watched = typed(tmp_path, "manage.py", *status[3:])
    assert watched.returncode == 0, watched.stderr
    assert "prefix_ratio" in watched.stdout
    assert (tmp_path / "reports" / "prefix_ratio" / "report.html").exists()
