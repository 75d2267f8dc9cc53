"""docs/tutorials/own-cluster.md on a real SLURM, from the question whether it accepts the jobs to the report."""

import shlex

from tests.helpers.pages import ROOT, lines

PAGE = ROOT / "docs" / "tutorials" / "own-cluster.md"
ONE_SEED = ("sweep.seeds=1", "sweep.arms=[uniform,causal]")


def test_the_tutorials_launch_is_accepted_watched_and_reported(slurm, typed, tmp_path):
    steps = [shlex.split(line) for line in lines(PAGE) if line.startswith("aimv2 ")]
    launches = [words[2:] for words in steps if words[1] == "sweep" and "executor=slurm" in words]
    asked, launched = (
        next(words for words in launches if key in words) for key in ("dry_run=true", "executor.workers=8")
    )
    for words, answer in ((asked, "training FLOPs"), (launched, "finalizer job")):
        done = typed(tmp_path, "launch.py", *words, *ONE_SEED)
        assert done.returncode == 0, done.stderr
        assert answer in done.stdout
    slurm.wait_until_empty()
    watched = typed(tmp_path, "manage.py", *next(words[2:] for words in steps if words[1:3] == ["manage", "status"]))
    assert watched.returncode == 0, watched.stderr
    assert "prefix_ratio" in watched.stdout
    assert (tmp_path / "reports" / "prefix_ratio" / "report.html").exists()
