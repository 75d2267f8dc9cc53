"""What is asked of SLURM's commands, and what is made of their answers; the commands are stand-ins that print."""

import os
import re
import shlex
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console

from ablations.catalogue import STUDIES
from ablations.expand import expand
from ablations.request import Request, read_request, write_request
from aimv2.errors import UsageError
from aimv2.runs.failure import Failure
from sweeps.active_launches import Jobs, active_launches, cancel, new_launch, write_jobs
from sweeps.executors import cluster, slurm
from sweeps.executors.cluster import Element, Settling
from sweeps.executors.slurm import Queued, SlurmConfig
from sweeps.plan import Plan
from sweeps.status.status import in_queue
from sweeps.worker import WorkerReport

CONFIG = SlurmConfig(cluster="slurm", minutes=60, signal_seconds=90, array_parallelism=256)
SETTINGS = "printf 'ClusterName = here\\nMaxArraySize = 1001\\n'"


@pytest.fixture
def bin_dir(tmp_path, monkeypatch):
    """A folder that comes first on PATH, and a function that puts a command there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    put("srun", "exit 1")
    return put


@pytest.fixture
def made(bin_dir, tiny, tmp_path):
    def build(after=(), ranks=1, **more):
        config = replace(CONFIG, **more)
        return slurm.executor(
            config,
            replace(tiny, ranks=ranks),
            folder=tmp_path / "jobs",
            name="sweep-1",
            code=Path("/shared/code"),
            after=after,
        )

    return build


@pytest.fixture
def submitted(bin_dir, tmp_path):
    """Submit jobs; gives the script that sbatch got, without what differs from test to test."""

    def submit(executor, jobs):
        bin_dir("sbatch", f"cp $1 {tmp_path}/script; echo 'Submitted batch job 7'")
        bin_dir("squeue", "true")
        slurm.submit(executor, jobs)
        text = (tmp_path / "script").read_text()
        text = text.replace(str(tmp_path), "TMP").replace(shlex.quote(sys.executable), "PYTHON")
        return re.sub(r"[0-9a-f]{32}", "ID", text).strip().splitlines()

    return submit


def test_the_array_is_pinned(made, submitted):
    """What a cluster is asked for: a change here is a change for every user."""
    given = {"partition": "main", "account": "a1", "gres": "gpu:1", "setup": ("module load cuda",)}
    executor = made(minutes=30, signal_seconds=45, array_parallelism=2, more=("reservation=r",), **given)
    assert submitted(executor, [print, print, print]) == [
        "#!/bin/bash",
        "",
        "# Parameters",
        "#SBATCH --account=a1",
        "#SBATCH --array=0-2%2",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --error=TMP/jobs/%A_%a/%A_%a_0_log.err",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --job-name=sweep-1",
        "#SBATCH --nodes=1",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=TMP/jobs/%A_%a/%A_%a_0_log.out",
        "#SBATCH --partition=main",
        "#SBATCH --requeue",
        "#SBATCH --reservation=r",
        "#SBATCH --signal=USR2@45",
        "#SBATCH --time=30",
        "#SBATCH --wckey=submitit",
        "",
        "# setup",
        "module load cuda",
        "export OMP_NUM_THREADS=1",
        "export MKL_NUM_THREADS=1",
        "export OPENBLAS_NUM_THREADS=1",
        "export TOKENIZERS_PARALLELISM=false",
        "export PYTHONSAFEPATH=1",
        "export SRUN_CPUS_PER_TASK=1",
        "export PYTHONPATH=/shared/code${PYTHONPATH:+:$PYTHONPATH}",
        "",
        "# command",
        "export SUBMITIT_EXECUTOR=slurm",
        "srun --unbuffered --output TMP/jobs/%A_%a/%A_%a_%t_log.out --error TMP/jobs/%A_%a/%A_%a_%t_log.err PYTHON -u"
        " -m submitit.core._submit TMP/jobs/%j",
    ]


def test_ranks_are_shared_out_over_nodes(made, submitted, tiny):
    lines = submitted(made(ranks=8, nodes=2), [print])
    assert lines[lines.index("#SBATCH --nodes=2") + 1] == "#SBATCH --ntasks-per-node=4"
    with pytest.raises(UsageError, match=r"ranks=1 cannot .* evenly over executor\.nodes=2"):
        replace(CONFIG, nodes=2).check([tiny])
    with pytest.raises(UsageError, match=r"executor\.workers=3 and ranks=2: such runs have a job each"):
        replace(CONFIG, workers=3).check([tiny, replace(tiny, ranks=2)])


def test_the_job_behind_is_pinned(made, submitted):
    """It waits for the arrays and asks for a core, whatever they ask for."""
    given = {"gres": "gpu:1", "gpus_per_node": 2, "mem": "80GB", "cpus_per_task": 8}
    executor = made(
        after=["17", "18"], ranks=4, nodes=2, more=("gpus-per-task=1", "exclusive", "reservation=r"), **given
    )
    assert [line for line in submitted(executor, [print]) if line.startswith("#SBATCH") or "PYTHON " in line] == [
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --dependency=afterany:17:18",
        "#SBATCH --error=TMP/jobs/%j/%j_0_log.err",
        "#SBATCH --job-name=sweep-1",
        "#SBATCH --nodes=1",
        "#SBATCH --open-mode=append",
        "#SBATCH --output=TMP/jobs/%j/%j_0_log.out",
        "#SBATCH --requeue",
        "#SBATCH --reservation=r",
        "#SBATCH --signal=USR2@90",
        "#SBATCH --time=60",
        "#SBATCH --wckey=submitit",
        "PYTHON -u -m submitit.core._submit TMP/jobs/%j",
    ]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            "sbatch: error: invalid partition specified: nope\\nallocation failure: Invalid partition name specified",
            r"SLURM's sbatch says: invalid partition specified: nope \(executor.partition\). Allowed: main, urgent;",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            r"Invalid account or account/partition combination specified \(executor.partition or executor.account\)",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            r"says: Unable to contact slurm controller \(connect failure\); nothing was submitted",
        ),
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\\nsbatch: error: Batch job"
            " submission failed: Resource temporarily unavailable",
            r"Resource temporarily unavailable \(its queue is full; later, or with fewer executor.workers\); nothing",
        ),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\\nsbatch: error: Batch job submission failed: Job violates"
            " accounting/QOS policy (job submit limit, user's size and/or time limits)",
            r"time limits\) \(executor.account or .* or executor.minutes or fewer executor.workers\); nothing",
        ),
    ],
)
def test_a_refusal_is_one_sentence(made, bin_dir, answer, sentence):
    bin_dir("sbatch", f'printf "{answer}\\n" >&2; exit 1')
    bin_dir("sinfo", "printf 'main\\nurgent\\n'")
    with pytest.raises(UsageError, match=sentence):
        slurm.check(made())


def test_a_missing_command_is_one_sentence(made, monkeypatch):
    job = made()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="there is no sbatch on this machine; is it a login node"):
        slurm.check(job)
    with pytest.raises(UsageError, match="there is no srun on this machine; is it a login node"):
        made()
    assert slurm.queue("sweep-1") is None


def test_what_is_in_the_queue_is_read(bin_dir, tmp_path):
    def said(jobs):
        return in_queue(jobs, slurm.queue_of(tmp_path, jobs.cluster))

    lines = ["7_0|RUNNING|None", "7_1|PENDING|Resources", "7_2|PENDING|Resources", "8|PENDING|Dependency"]
    bin_dir("squeue", f"printf '%s\\n' {' '.join(map(repr, lines))}")
    assert slurm.queue("sweep-1")[1] == Queued("7_1", "PENDING", "Resources")
    assert said(Jobs({"7": 3}, "8", "here")) == "3 workers as array 7: 1 RUNNING, 2 PENDING (Resources)"
    bin_dir("squeue", "true")
    bin_dir("scontrol", SETTINGS)
    assert "UNKNOWN" in said(Jobs({"7": 3}, "8", "elsewhere"))
    assert "no job of it is in SLURM's queue any more" in said(Jobs({"7": 3}, "8", "here"))
    bin_dir("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert "UNKNOWN, squeue cannot be asked" in said(Jobs({"7": 3}, "8", "here"))


def test_a_submission_that_was_accepted_and_not_answered_is_withdrawn_and_made_again(made, bin_dir, tmp_path):
    count, withdrawn = tmp_path / "count", tmp_path / "withdrawn"
    bin_dir(
        "sbatch",
        f"echo x >> {count}; if [ $(wc -l < {count}) = 1 ]; then"
        " echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1; fi;"
        " echo 'Submitted batch job 8'",
    )
    bin_dir("squeue", f"if [ -e {count} ] && [ ! -e {withdrawn} ]; then echo '7_0|PENDING|None'; fi")
    bin_dir("scancel", f"echo $* > {withdrawn}")
    assert slurm.submit(made(), [print, print]) == "8"
    assert withdrawn.read_text().strip() == "7"
    assert len(list((tmp_path / "jobs").glob("8_*/*_submitted.pkl"))) == 2


def test_a_submission_of_which_nothing_is_known_says_how_to_take_it_out(made, bin_dir, tmp_path):
    asked = tmp_path / "asked"
    bin_dir("sbatch", f"touch {asked}; echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
    bin_dir("squeue", f"if [ -e {asked} ]; then exit 1; fi")
    with pytest.raises(
        UsageError, match=r"Socket timed out .*; squeue does not answer either\. If it was accepted, take"
    ):
        slurm.submit(made(), [print, print])


@pytest.mark.parametrize(("user", "name", "answer"), [(0, "here", []), (1, "here", None), (0, "elsewhere", None)])
def test_an_empty_queue_says_something_of_ones_own_jobs_alone(bin_dir, tmp_path, monkeypatch, user, name, answer):
    """SLURM may hide those of others (PrivateData), and another cluster's are never shown."""
    bin_dir("scontrol", SETTINGS)
    bin_dir("squeue", "true")
    asking = os.getuid() + user
    monkeypatch.setattr(os, "getuid", lambda: asking)
    assert slurm.queue_of(tmp_path, name) == answer
    bin_dir("squeue", "echo '8|PENDING|Dependency'")
    assert slurm.queue_of(tmp_path, name) == [Queued("8", "PENDING", "Dependency")]


def test_what_a_user_has_squeue_show_is_not_asked(bin_dir, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    bin_dir("squeue", 'echo "7|${SQUEUE_STATES:-ALL}|None"')
    assert slurm.queue("sweep-1") == [Queued("7", "ALL", "None")]


@pytest.mark.parametrize("more", ["dependency=afterok:5", "time=10", "partition=main", "requeue"])
def test_what_the_launch_says_itself_is_no_other_key(more):
    with pytest.raises(
        ValueError, match=f"more has '{more}': {more.partition('=')[0]} is the launch's to say, or a key"
    ):
        replace(CONFIG, more=(more,))


def test_a_worker_must_have_time_before_it_is_told():
    with pytest.raises(
        ValueError, match=r"signal_seconds=90 leaves nothing of minutes=1: workers would be told to end"
    ):
        replace(CONFIG, minutes=1)


@pytest.mark.parametrize("key", ["Reservation", "--hold", "a b", "x;y", "x=a\nb"])
def test_other_keys_of_sbatch_are_long_names(key):
    with pytest.raises(ValueError, match=r"more has '.*': it takes long names without dashes in front"):
        SlurmConfig(cluster="slurm", minutes=1, signal_seconds=1, array_parallelism=1, more=(key,))


def test_the_device_is_that_of_the_nodes():
    def device(**more):
        return SlurmConfig(cluster="slurm", minutes=1, signal_seconds=1, array_parallelism=1, **more).device

    assert device() == device(gres="license:1") == "cpu"
    assert device(gres="gpu:a100:1") == device(gpus_per_node=2) == device(more=("gpus-per-task=1",)) == "cuda"


@pytest.fixture
def small_request(tiny, tmp_path):
    study = STUDIES["prefix_ratio"]
    cells = expand(study, tiny, arms=["uniform"], seeds=[0])
    runs_dir = tmp_path / "runs"
    found = Request(study=study, cells=cells, arguments=("sweep=prefix_ratio",))
    write_request(runs_dir, found)
    return found, Plan(found.folder, cells, runs_dir)


def on_slurm(small_request, plan):
    folder = new_launch(plan.runs_dir, plan.title, dict.fromkeys(plan.runs, 0))
    cluster.save_request(folder / cluster.LAUNCHED, small_request)
    write_jobs(folder, Jobs({"7": len(plan.runs)}, "8", "here"))
    return folder


@pytest.fixture
def submissions(bin_dir, monkeypatch):
    """What is submitted, as jobs 7, 8, ...: what each waits for, and what it does."""
    found = []

    def submit(made, jobs):
        found.append((made.parameters.get("dependency"), jobs))
        return str(6 + len(found))

    monkeypatch.setattr(slurm, "submit", submit)
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.05)
    bin_dir("sbatch", "true")
    bin_dir("scontrol", SETTINGS)
    bin_dir("squeue", "printf '7_0|PENDING|Resources\\n9_0|PENDING|Resources\\n'")
    return found


@pytest.fixture
def launch_again(tmp_path):
    def launch(found, **more):
        plan = Plan(found.folder, found.cells, tmp_path / "runs")
        config, console = replace(CONFIG, **more), Console(quiet=True)
        cluster.launch_array(found, plan, plan.remaining(), config, tmp_path / "reports", console)
        write_request(plan.runs_dir, found)

    return launch


def starts(submission):
    return [element.start for element in submission[1]]


def test_workers_begin_at_equal_distances(tiny, submissions, launch_again):
    study = replace(STUDIES["prefix_ratio"], controls=())
    found = Request(study=study, cells=expand(study, tiny, arms=["uniform"], seeds=range(3)), arguments=())
    launch_again(found, workers=3)
    assert starts(submissions[0]) == [0, 2, 4]
    assert submissions[1][0] == "afterany:7"


def test_an_array_is_no_longer_than_slurm_lets_it_be(small_request, submissions, launch_again, bin_dir):
    bin_dir("scontrol", "printf 'ClusterName = here\\nMaxArraySize = 3\\n'")
    launch_again(small_request[0])
    assert len(starts(submissions[0])) == 2


def test_runs_in_the_queue_are_left_to_the_launch_that_has_them(small_request, submissions, launch_again):
    launch_again(small_request[0])
    launch_again(small_request[0])
    assert len(submissions) == 2, "an array and the job behind it, once"


def test_a_launch_of_more_arms_has_workers_for_those_and_waits_for_all(small_request, tiny, submissions, launch_again):
    found, plan = small_request
    launch_again(found)
    wider = replace(found, cells=expand(found.study, tiny, arms=["uniform", "causal"], seeds=[0]))
    launch_again(wider)
    names = list(dict.fromkeys(cell.name for cell in wider.cells))
    assert [names[start] for start in starts(submissions[2])] == [name for name in names if name not in plan.runs]
    assert submissions[3][0] == "afterany:9:7"
    launch_again(replace(found, cells=found.cells[:1]))
    assert len(submissions) == 5, "all its runs are in the queue, and somebody has to write its report"
    assert sorted(submissions[4][0].split(":")) == ["7", "9", "afterany"]


def test_runs_of_an_array_that_has_ended_are_submitted_again(small_request, submissions, launch_again, bin_dir):
    """SLURM forgets an array after some minutes, and then nothing can wait for it."""
    launch_again(small_request[0])
    bin_dir("squeue", "echo '8|PENDING|Resources'")
    launch_again(small_request[0])
    assert len(starts(submissions[2])) == len(small_request[1].runs)
    assert submissions[3][0] == "afterany:9"


def test_what_was_cancelled_is_submitted_again(small_request, submissions, launch_again):
    found, plan = small_request
    launch_again(found)
    cancel(active_launches(plan.runs_dir)[0], list(plan.runs))
    launch_again(found)
    assert len(starts(submissions[2])) == len(plan.runs)


def test_a_run_that_failed_is_submitted_again_while_its_launch_is_in_the_queue(
    small_request, submissions, launch_again
):
    found, plan = small_request
    launch_again(found)
    failed = list(plan.runs.values())[1]
    with failed.acquire(plan.cell_of[failed.name].config) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    launch_again(found)
    assert starts(submissions[2]) == [1]


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_an_element_asks_for_a_requeue_only_where_slurm_would_not(small_request, monkeypatch, number):
    """What it raises at the end is for submitit, which requeues on SIGUSR2."""
    found, plan = small_request
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.append(True))
    monkeypatch.setattr(cluster, "work", lambda *_, **__: WorkerReport(signal=number))
    try:
        Element(on_slurm(found, plan), 0)()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [True] * (number == signal.SIGUSR2)


def test_an_element_does_its_own_run_first_and_the_job_behind_writes_the_report(small_request, tmp_path):
    found, plan = small_request
    folder = on_slurm(found, plan)
    names = list(plan.runs)
    report = Element(folder, 1)()
    assert report.done == names[1:] + names[:1]
    Settling(folder, CONFIG, tmp_path / "reports", 0)()
    assert (tmp_path / "reports" / found.folder / "report.md").exists()
    assert active_launches(plan.runs_dir) == []
    assert Element(folder, 0)().done == [], "requeued after all was over"


def test_what_workers_left_is_submitted_again_unless_they_never_tried(small_request, tmp_path, monkeypatch):
    found, plan = small_request
    folder = on_slurm(found, plan)
    submitted = []

    def submit(launch, tasks, *more):
        submitted.append([task.name for task in tasks])
        return Jobs({"9": 1}, "10", "here")

    monkeypatch.setattr(cluster, "submit", submit)
    first = next(iter(plan.runs.values()))
    with first.acquire(plan.cell_of[first.name].config):
        pass  # a worker died over it
    Settling(folder, CONFIG, tmp_path / "reports", 0)()
    assert submitted == [list(plan.runs)]
    assert folder.exists()
    Settling(folder, CONFIG, tmp_path / "reports", plan.num_attempts())()
    assert len(submitted) == 1
    assert not folder.exists()
    assert read_request(plan.runs_dir, found.folder, STUDIES) == found


def test_the_report_waits_for_runs_that_others_hold(small_request, submissions, tmp_path):
    found, plan = small_request
    folder, first = on_slurm(found, plan), next(iter(plan.runs.values()))
    attempt = first.acquire(plan.cell_of[first.name].config)
    waiting = threading.Thread(target=Settling(folder, CONFIG, tmp_path / "reports", 0))
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive()
    assert submissions == []
    with attempt:
        attempt.fail(Failure("bug", "a test"), "")
    waiting.join()
    assert len(submissions) == 2, "the other run had no worker"


def test_who_waits_for_others_asks_for_a_requeue_before_its_time_is_up(small_request, submissions, tmp_path):
    class ToldError(Exception):
        pass

    def told(number, frame):
        raise ToldError

    found, plan = small_request
    first = next(iter(plan.runs.values()))
    first.acquire(plan.cell_of[first.name].config)
    before = signal.signal(signal.SIGUSR2, told)
    try:
        with pytest.raises(ToldError):
            Settling(on_slurm(found, plan), replace(CONFIG, minutes=1, signal_seconds=59), tmp_path / "reports", 0)()
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_what_cannot_be_submitted_again_is_in_the_report(small_request, submissions, tmp_path, monkeypatch, capsys):
    found, plan = small_request
    folder, first = on_slurm(found, plan), next(iter(plan.runs.values()))
    with first.acquire(plan.cell_of[first.name].config):
        pass
    monkeypatch.setattr(slurm, "submit", Mock(side_effect=UsageError("SLURM's sbatch says: Access denied")))
    Settling(folder, CONFIG, tmp_path / "reports", 0)()
    assert "cannot be submitted again: SLURM's sbatch says: Access denied" in capsys.readouterr().out
    assert (tmp_path / "reports" / found.folder / "report.md").exists()
    assert not folder.exists()


def test_what_was_cancelled_is_not_submitted_again_by_the_job_behind(small_request, submissions, tmp_path):
    found, plan = small_request
    folder, first = on_slurm(found, plan), next(iter(plan.runs.values()))
    with first.acquire(plan.cell_of[first.name].config):
        pass
    cancel(active_launches(plan.runs_dir)[0], list(plan.runs))
    Settling(folder, CONFIG, tmp_path / "reports", 0)()
    assert submissions == []
    assert not folder.exists()


@pytest.mark.parametrize(
    ("queue", "taken_out", "is_ended"),
    [
        (["7_0|PENDING|Resources", "7_1|PENDING|Resources", "8|PENDING|Dependency"], ["--state=PENDING 7", "8"], True),
        (["7_0|RUNNING|None", "7_1|PENDING|Resources", "8|PENDING|Dependency"], ["--state=PENDING 7"], False),
        (["8|PENDING|JobHeldUser"], ["8"], True),
    ],
)
def test_a_cancelled_launch_leaves_the_queue(small_request, bin_dir, tmp_path, queue, taken_out, is_ended):
    folder = on_slurm(*small_request)
    bin_dir("squeue", f"printf '%s\\n' {' '.join(map(repr, queue))}")
    bin_dir("scancel", f"echo $* >> {tmp_path}/taken-out")
    assert cluster.withdraw(active_launches(folder.parents[1])[0]) == ""
    assert (tmp_path / "taken-out").read_text().splitlines() == taken_out
    assert folder.exists() != is_ended


def test_what_stays_in_the_queue_is_said(small_request, bin_dir):
    folder = on_slurm(*small_request)
    (active,) = active_launches(folder.parents[1])
    bin_dir("squeue", "exit 1")
    assert cluster.withdraw(active) == "4 workers as array 7: SLURM does not answer; cancel again when it does"
    bin_dir("squeue", "echo '7_0|PENDING|Resources'")
    bin_dir("scancel", "echo 'scancel: error: Kill job error on job id 7: Access/permission denied' >&2; exit 1")
    said = cluster.withdraw(active)
    assert said == "4 workers as array 7: SLURM's scancel says: Kill job error on job id 7: Access/permission denied"


@pytest.mark.parametrize(("cluster_name", "is_ended"), [("here", True), ("elsewhere", False)])
def test_a_launch_whose_jobs_somebody_withdrew_is_ended_where_they_were(small_request, bin_dir, cluster_name, is_ended):
    found, plan = small_request
    folder = on_slurm(found, plan)
    bin_dir("scontrol", f"echo 'ClusterName = {cluster_name}'")
    bin_dir("squeue", "echo '8|PENDING|Dependency'")
    cluster.end_abandoned(plan.runs_dir)
    assert folder.exists(), "it has a job"
    bin_dir("squeue", "true")
    cluster.end_abandoned(plan.runs_dir)
    assert folder.exists() != is_ended


def test_accounting_is_never_asked(small_request, bin_dir, tmp_path):
    """Clusters without it answer that it is disabled."""
    found, plan = small_request
    asked = tmp_path / "asked"
    bin_dir("sacct", f"touch {asked}; echo 'Slurm accounting storage is disabled' >&2; exit 1")
    bin_dir("sbatch", "[ $1 = --test-only ] || echo 'Submitted batch job 7'")
    bin_dir("scontrol", SETTINGS)
    bin_dir("squeue", "true")
    cluster.launch_array(found, plan, list(plan.runs), CONFIG, tmp_path / "reports", Console())
    bin_dir("squeue", "printf '7_0|RUNNING|None\\n7_1|PENDING|Resources\\n'")
    (active,) = active_launches(plan.runs_dir)
    assert "1 RUNNING, 1 PENDING (Resources)" in in_queue(active.jobs, slurm.queue(active.folder.name))
    Element(active.folder, 0)()
    Settling(active.folder, CONFIG, tmp_path / "reports", 0)()
    assert (tmp_path / "reports" / found.folder / "report.md").exists()
    assert not asked.exists()


def test_where_the_job_behind_is_refused_the_array_is_withdrawn(small_request, bin_dir, tmp_path):
    """Else its workers would run, and nobody would see to what they leave."""
    found, plan = small_request
    count, withdrawn = tmp_path / "count", tmp_path / "withdrawn"
    bin_dir(
        "sbatch",
        f"[ $1 = --test-only ] && exit 0; echo x >> {count}; if [ $(wc -l < {count}) = 1 ];"
        " then echo 'Submitted batch job 7'; else echo 'sbatch: error: Batch job submission failed: Job violates"
        " accounting/QOS policy' >&2; exit 1; fi",
    )
    bin_dir("squeue", "true")
    bin_dir("scontrol", SETTINGS)
    bin_dir("scancel", f"echo $* > {withdrawn}")
    with pytest.raises(UsageError, match=r"Job violates accounting/QOS policy \(executor.account or executor.qos\)"):
        cluster.launch_array(found, plan, list(plan.runs), CONFIG, tmp_path / "reports", Console())
    assert withdrawn.read_text().strip() == "7"
    assert active_launches(plan.runs_dir) == []
