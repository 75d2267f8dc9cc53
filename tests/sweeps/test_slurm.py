"""What is asked of SLURM's commands, and what is made of their answers; the commands are stand-ins that print."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ablations.catalogue import STUDIES
from ablations.launched import Launched, read_launched, write_launched
from aimv2.errors import UsageError
from sweeps import cluster, slurm
from sweeps.cluster import Element, Settling
from sweeps.launches import Jobs, launches, new_launch, write_jobs
from sweeps.plan import Plan
from sweeps.slurm import Queued, SlurmConfig
from sweeps.status import in_queue

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
        config = SlurmConfig(cluster="slurm", minutes=60, signal_seconds=90, array_parallelism=16, **more)
        return slurm.executor(
            config,
            replace(tiny, ranks=ranks),
            folder=tmp_path / "jobs",
            name="sweep-1",
            code=Path("/shared/code"),
            after=after,
        )

    return build


def test_the_script_is_pinned(made, tmp_path):
    """What a cluster is asked for: a change here is a change for every user."""
    text = made(partition="main", account="a1", gres="gpu:1", setup=("module load cuda",), more=("reservation=r",))
    lines = text._make_submission_file_text("run", "id").splitlines()
    folder = tmp_path / "jobs"
    assert lines == [
        "#!/bin/bash",
        "",
        "# Parameters",
        "#SBATCH --account=a1",
        "#SBATCH --cpus-per-task=1",
        f"#SBATCH --error={folder}/%j/%j_0_log.err",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --job-name=sweep-1",
        "#SBATCH --nodes=1",
        "#SBATCH --open-mode=append",
        f"#SBATCH --output={folder}/%j/%j_0_log.out",
        "#SBATCH --partition=main",
        "#SBATCH --requeue",
        "#SBATCH --reservation=r",
        "#SBATCH --signal=USR2@90",
        "#SBATCH --time=60",
        "#SBATCH --wckey=submitit",
        "",
        "# setup",
        "module load cuda",
        "export OMP_NUM_THREADS=1",
        "export MKL_NUM_THREADS=1",
        "export OPENBLAS_NUM_THREADS=1",
        "export TOKENIZERS_PARALLELISM=false",
        "export PYTHONSAFEPATH=1",
        "export PYTHONPATH=/shared/code${PYTHONPATH:+:$PYTHONPATH}",
        "",
        "# command",
        "export SUBMITIT_EXECUTOR=slurm",
        f"srun --unbuffered --output {folder}/%j/%j_%t_log.out --error {folder}/%j/%j_%t_log.err run",
    ]


def test_ranks_are_shared_out_over_nodes(made, tiny):
    text = made(ranks=8, nodes=2)._make_submission_file_text("run", "id")
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=4\n" in text
    with pytest.raises(UsageError, match=r"ranks=1 cannot .* evenly over executor\.nodes=2"):
        replace(CONFIG, nodes=2).check([tiny])
    with pytest.raises(UsageError, match=r"executor\.workers=3 and ranks=2: such runs have a job each"):
        replace(CONFIG, workers=3).check([tiny, replace(tiny, ranks=2)])


def test_the_job_behind_waits_for_the_array_and_asks_for_no_gpu(made):
    text = made(after=["17", "18"], ranks=4, nodes=2, gres="gpu:1")._make_submission_file_text("run", "id")
    assert "#SBATCH --dependency=afterany:17:18\n" in text
    assert "#SBATCH --nodes=1\n" in text
    assert "ntasks" not in text
    assert "gres" not in text
    assert "srun" not in text


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


def test_what_is_in_the_queue_is_read(bin_dir):
    lines = ["7_0|RUNNING|None", "7_1|PENDING|Resources", "7_2|PENDING|Resources", "8|PENDING|Dependency"]
    bin_dir("squeue", f"printf '%s\\n' {' '.join(map(repr, lines))}")
    assert slurm.queue("sweep-1")[1] == Queued("7_1", "PENDING", "Resources")
    assert in_queue("sweep-1", Jobs({"7": 3}, "8", "here")) == "3 workers as array 7: 1 RUNNING, 2 PENDING (Resources)"
    bin_dir("squeue", "true")
    bin_dir("scontrol", SETTINGS)
    assert "UNKNOWN" in in_queue("sweep-1", Jobs({"7": 3}, "8", "elsewhere"))
    assert "no job of it is in SLURM's queue any more" in in_queue("sweep-1", Jobs({"7": 3}, "8", "here"))
    bin_dir("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert "UNKNOWN, for squeue cannot be asked" in in_queue("sweep-1", Jobs({"7": 3}, "8", "here"))


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


@pytest.mark.parametrize("key", ["Reservation", "a b", "x;y"])
def test_other_keys_of_sbatch_are_long_names(key):
    with pytest.raises(ValueError, match="pattern"):
        SlurmConfig(cluster="slurm", minutes=1, signal_seconds=1, array_parallelism=1, more=(key,))


def test_the_device_is_that_of_the_nodes():
    def device(**more):
        return SlurmConfig(cluster="slurm", minutes=1, signal_seconds=1, array_parallelism=1, **more).device

    assert device() == device(gres="license:1") == "cpu"
    assert device(gres="gpu:a100:1") == device(gpus_per_node=2) == device(more=("gpus-per-task=1",)) == "cuda"


@pytest.fixture
def launched(tiny, tmp_path):
    study = STUDIES["prefix_ratio"]
    cells = study.cells(tiny, arms=["uniform"], seeds=[0])
    runs_dir = tmp_path / "runs"
    found = Launched(study=study, cells=cells, arguments=("sweep=prefix_ratio",))
    write_launched(runs_dir, found)
    return found, Plan(found.folder, cells, runs_dir)


def on_slurm(launched, plan):
    folder = new_launch(plan.runs_dir, plan.title, dict.fromkeys(plan.runs, 0))
    cluster.save_launched(folder / cluster.LAUNCHED, launched)
    write_jobs(folder, Jobs({"7": len(plan.runs)}, "8", "here"))
    return folder


def test_an_element_does_its_own_run_first_and_the_job_behind_writes_the_report(launched, tmp_path):
    found, plan = launched
    folder = on_slurm(found, plan)
    names = list(plan.runs)
    report = Element(folder, 1)()
    assert report.done == names[1:] + names[:1]
    Settling(folder, CONFIG, tmp_path / "reports", 0)()
    assert (tmp_path / "reports" / found.folder / "report.md").exists()
    assert launches(plan.runs_dir) == []
    assert Element(folder, 0)().done == [], "requeued after all was over"


def test_what_workers_left_is_submitted_again_unless_they_never_tried(launched, tmp_path, monkeypatch):
    found, plan = launched
    folder = on_slurm(found, plan)
    submitted = []

    def submit(launch, tasks, *more):
        submitted.append([task.name for task in tasks])
        return Jobs({"9": 1}, "10", "here")

    monkeypatch.setattr(cluster, "submit", submit)
    first = next(iter(plan.runs.values()))
    with first.claim(plan.cell_of[first.name].config):
        pass  # a worker died over it
    Settling(folder, CONFIG, tmp_path / "reports", 0)()
    assert submitted == [list(plan.runs)]
    assert folder.exists()
    Settling(folder, CONFIG, tmp_path / "reports", plan.num_attempts())()
    assert len(submitted) == 1
    assert not folder.exists()
    assert read_launched(plan.runs_dir, found.folder, STUDIES) == found


@pytest.mark.parametrize(("cluster_name", "is_ended"), [("here", True), ("elsewhere", False)])
def test_a_launch_whose_jobs_somebody_withdrew_is_ended_where_they_were(launched, bin_dir, cluster_name, is_ended):
    found, plan = launched
    folder = on_slurm(found, plan)
    bin_dir("scontrol", f"echo 'ClusterName = {cluster_name}'")
    bin_dir("squeue", "echo '8|PENDING|Dependency'")
    cluster.end_abandoned(plan.runs_dir)
    assert folder.exists(), "it has a job"
    bin_dir("squeue", "true")
    cluster.end_abandoned(plan.runs_dir)
    assert folder.exists() != is_ended


def test_accounting_is_never_asked(launched, bin_dir, tmp_path):
    """Clusters without it answer that it is disabled."""
    found, plan = launched
    asked = tmp_path / "asked"
    bin_dir("sacct", f"touch {asked}; echo 'Slurm accounting storage is disabled' >&2; exit 1")
    bin_dir("sbatch", "[ $1 = --test-only ] || echo 'Submitted batch job 7'")
    bin_dir("scontrol", SETTINGS)
    bin_dir("squeue", "true")
    cluster.launch_array(found, plan, list(plan.runs), CONFIG, tmp_path / "reports", Console())
    bin_dir("squeue", "printf '7_0|RUNNING|None\\n7_1|PENDING|Resources\\n'")
    (launching,) = launches(plan.runs_dir)
    assert "1 RUNNING, 1 PENDING (Resources)" in in_queue(launching.folder.name, launching.jobs)
    Element(launching.folder, 0)()
    Settling(launching.folder, CONFIG, tmp_path / "reports", 0)()
    assert (tmp_path / "reports" / found.folder / "report.md").exists()
    assert not asked.exists()


def test_where_the_job_behind_is_refused_the_array_is_withdrawn(launched, bin_dir, tmp_path):
    """Else its workers would run, and nobody would see to what they leave."""
    found, plan = launched
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
    assert launches(plan.runs_dir) == []
