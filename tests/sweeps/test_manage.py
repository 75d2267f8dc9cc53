"""Looking after sweeps, as it is typed."""

import json
import os
import re
import time

import pytest

from ablations.request import Request, write_request
from ablations.studies.prefix_ratio import STUDY
from aimv2.evaluation.metrics import Metric
from aimv2.model.network import build
from aimv2.runs.failure import Failure
from aimv2.runs.lease import Presence
from aimv2.runs.provenance import digest_of
from aimv2.runs.record import CHECKPOINT, RunFolder
from aimv2.training import checkpoint
from aimv2.training.optimizer import build_optimizer
from sweeps import launch, manage, parse
from sweeps.active_launches import at_work, cancelled
from sweeps.executors.local import LocalExecutor
from sweeps.plan import Plan
from sweeps.prune import prune
from tests.helpers.sweeps import SMALL


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def finished(folder, cache_dir):
    """A sweep of two arms and two seeds, and their untrained encoders, done in this process."""
    asked = ["sweep=prefix_ratio", "executor=debug", f"data.cache_dir={cache_dir}", *SMALL, "sweep.seeds=1"]
    asked = [one for one in asked if not one.startswith("budget.")] + ["budget.samples=64", "sweep.arms=[uniform]"]
    assert launch.main(asked) == 0
    return sorted(path.name for path in (folder / "runs").glob("v1-*"))


def typed(capsys, *arguments):
    capsys.readouterr()
    status = manage.main(arguments)
    shown = capsys.readouterr()
    return status, " ".join((shown.out + shown.err).split())


@pytest.mark.slow
def test_status_logs_replay_extend_and_retry_of_a_sweep(finished, folder, capsys):
    """One sweep, looked at from all sides: making one takes the time."""
    status, shown = typed(capsys, "status")
    assert status == 0
    assert "prefix_ratio: Does the prefix law matter" in shown
    assert "2 runs, 0 launches at work" in shown

    assert manage.main(["status", "prefix_ratio", "--json"]) == 0
    (sweep,) = json.loads(capsys.readouterr().out)
    assert {run["run"] for run in sweep["runs"]} == set(finished)
    assert {run["state"] for run in sweep["runs"]} == {"done"}

    status, shown = typed(capsys, "logs", finished[0])
    assert status == 0
    assert "attempt 0001:" in shown
    assert "finished" in shown

    status, shown = typed(capsys, "replay", finished[0][:8])
    assert status == 0
    assert shown.endswith("equal to the last bit")

    assert typed(capsys, "retry", "prefix_ratio") == (0, "no run of prefix_ratio has failed")

    status, shown = typed(capsys, "extend", "prefix_ratio", "seeds=2")
    assert status == 0
    assert "4 runs, 2 to do" in shown
    assert "2 runs done" in shown
    assert len(list(folder.glob("runs/*/result.json"))) == 4

    result = next(path for path in folder.glob("runs/v1-*/result.json"))
    broken = json.loads(result.read_text())
    broken["metrics"]["probe_digits"]["value"] += 0.5
    result.write_text(json.dumps(broken))
    status, shown = typed(capsys, "replay", result.parent.name)
    assert status == 1
    assert "largest difference: probe_digits was" in shown
    assert shown.endswith("not equal")


@pytest.mark.slow
def test_only_what_failed_is_tried_again(folder, capsys, cache_dir):
    asked = ["sweep=prefix_ratio", "executor=debug", f"data.cache_dir={cache_dir}", *SMALL, "sweep.seeds=1"]
    asked += ["sweep.arms=[uniform]", "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01"]
    assert launch.main(asked) == 1
    status, shown = typed(capsys, "retry", "prefix_ratio")
    assert status == 1
    assert "not finite" in shown
    assert "a lower optimizer.peak_lr" in shown
    assert "1 to do" in shown
    attempts = sorted(path.parent.parent.name for path in folder.glob("runs/v1-*/attempts/*"))
    assert len(attempts) == 3, "one run twice, the untrained encoder once"
    assert "traceback" not in typed(capsys, "status", "prefix_ratio")[1].lower()
    failed = next(path.parent.parent.parent for path in folder.glob("runs/*/attempts/0002/failure.json"))
    assert "RunFailedError" in typed(capsys, "logs", failed.name)[1]


def prepared(folder, tiny):
    """A launch's record and nothing else, as after a launch on another host."""
    runs_dir = folder / "runs"
    cells = STUDY.cells(tiny, seeds=[0])
    write_request(runs_dir, Request(study=STUDY, cells=cells, arguments=("sweep=prefix_ratio",)))
    return runs_dir, cells


def launched_without_running(cache_dir, runs_dir, *more):
    """A launch's record as the launcher writes it; its runs were all left for others to do."""
    small = [one for one in SMALL if not one.startswith("budget.")] + ["budget.samples=64"]
    arguments = ["sweep=prefix_ratio", "executor=debug", f"data.cache_dir={cache_dir}", *small, *more]
    found = parse.parse(arguments)
    write_request(runs_dir, found.request)
    return found.request.cells


def test_retry_speaks_of_what_it_retried(folder, cache_dir, capsys, monkeypatch):
    """One run failed and is done now; another waits, which is no failure."""
    cells = launched_without_running(cache_dir, folder / "runs", "sweep.arms=[uniform]", "sweep.seeds=2")
    failed = RunFolder(folder / "runs", cells[0].name)
    with failed.acquire(cells[0].config) as attempt:
        attempt.fail(Failure("node", "the disk was full"), "")

    def do_runs(executor, plan, names, console):
        assert list(names) == [cells[0].name]
        with failed.acquire(cells[0].config) as attempt:
            attempt.publish({"caption_loss": Metric(1.0, "nats/token", "a test")}, train_flops=0, train_seconds=1.0)

    monkeypatch.setattr(LocalExecutor, "complete", do_runs)
    monkeypatch.setattr(Plan, "prepare_data", lambda plan: None)
    monkeypatch.setattr("analysis.report.build", lambda *args: "nowhere")
    status, shown = typed(capsys, "retry", "prefix_ratio")
    assert status == 0, shown
    assert "3 runs are still missing; launch the sweep again to do the rest" in shown
    assert "no worker tried it" not in shown

    monkeypatch.setattr(LocalExecutor, "complete", lambda *args: None)
    with RunFolder(folder / "runs", cells[1].name).acquire(cells[1].config) as attempt:
        attempt.fail(Failure("node", "the disk was full"), "")
    status, shown = typed(capsys, "retry", "prefix_ratio")
    assert status == 1, shown
    assert "2 runs are still missing" in shown


@pytest.mark.parametrize(
    ("had", "asked", "lost"),
    [
        ("sweep.seeds=8", "seeds=2", "seeds=2 would leave out what there is: seeds 2, 3, 4, 5, 6, 7 of 0, 1, 2,"),
        ("sweep.seeds=[3,4,5]", "seeds=5", "seeds=5 would leave out what there is: seed 5 of 3, 4, 5"),
        ("sweep.seeds=2", "seeds=[1,2,3]", "seeds=[1,2,3] would leave out what there is: seed 0 of 0, 1"),
        ("sweep.seeds=2", "seeds=some", "some must be a number of seeds"),
        ("sweep.seeds=[3,5]", "seeds=8", None),
        ("sweep.seeds=[3,5]", "seeds=[3,4,5]", None),
        ("sweep.seeds=2", "samples=128", None),
    ],
)
def test_extending_never_drops_a_seed(folder, cache_dir, capsys, monkeypatch, had, asked, lost):
    launched_without_running(cache_dir, folder / "runs", "sweep.arms=[uniform]", had)
    record = folder / "runs" / "studies" / "prefix_ratio.json"
    before = record.read_bytes()
    launches = []
    monkeypatch.setattr(launch, "carry_out", lambda arguments: launches.append(arguments) or 0)
    status, shown = typed(capsys, "extend", "prefix_ratio", asked)
    assert record.read_bytes() == before
    if lost is None:
        assert (status, len(launches)) == (0, 1)
        assert ("samples= makes new runs" in shown) == asked.startswith("samples")
    else:
        assert (status, launches) == (2, [])
        assert lost in shown


def test_cancelling_spares_what_another_sweep_wants(folder, tiny, capsys):
    runs_dir, cells = prepared(folder, tiny)
    assert typed(capsys, "cancel", "prefix_ratio_test") == (0, "no launch of prefix_ratio_test is at work")
    names = [cell.name for cell in cells]
    tries = dict.fromkeys(names, 0)
    with at_work(runs_dir, "prefix_ratio_test", tries) as ours, at_work(runs_dir, "other", {names[0]: 0}) as other:
        with RunFolder(runs_dir, names[0]).acquire(cells[0].config):
            status, shown = typed(capsys, "cancel", "prefix_ratio_test")
            assert status == 2
            assert "There is no terminal to ask; say --yes" in shown
            assert cancelled(ours) is None
            status, shown = typed(capsys, "cancel", "prefix_ratio_test", "--yes")
        assert status == 0
        assert "1 under way are wanted by another sweep and stay" in shown
        assert cancelled(ours) == set(names[1:])
        assert cancelled(other) is None


@pytest.fixture
def attempt(tiny):
    """Make an attempt at a run that leaves a checkpoint; gives its path."""
    model = build(tiny)
    optimizer = build_optimizer(model, tiny.optimizer)

    def make(run, config, *, end=lambda taken: None):
        taken = run.acquire(config)
        with taken:
            taken.write_rows([{"step": 0}])
            checkpoint.keep(taken.folder, model, optimizer, checkpoint.Progress())
            end(taken)
        return taken.folder / CHECKPOINT

    return make


def pruned_of(shown):
    """Megabytes of checkpoints, code and logs, from what the command says."""
    return [float(number) for number in re.findall(r"([0-9.]+) MB of", shown)]


@pytest.mark.parametrize(
    ("said", "again"),
    [
        ([], ["executor=slurm", "executor.minutes=60", "executor.mem=8GB"]),
        (["executor.minutes=90"], ["executor=slurm", "executor.mem=8GB", "executor.minutes=90"]),
        (["executor=local", "executor.workers=1"], ["executor=local", "executor.workers=1"]),
    ],
)
def test_a_retry_can_have_more_time_or_another_executor(tiny, tmp_path, monkeypatch, said, again):
    cells = STUDY.cells(tiny, arms=["uniform"], seeds=[0])
    typed_once = ("sweep=prefix_ratio", "executor=slurm", "executor.minutes=60", "executor.mem=8GB", "dry_run=true")
    write_request(tmp_path, Request(study=STUDY, cells=cells, arguments=typed_once))
    with RunFolder(tmp_path, cells[0].name).acquire(cells[0].config) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    request = []
    monkeypatch.setattr("sweeps.launch.carry_out", lambda arguments, only: request.extend(arguments) or 0)
    assert manage.main(["retry", "prefix_ratio_test", f"runs_dir={tmp_path}", *said]) == 0
    assert [word for word in request if word != f"runs_dir={tmp_path}"] == ["sweep=prefix_ratio", *again]


def test_pruning_leaves_results_and_what_somebody_will_go_on_from(folder, tiny, attempt, capsys):
    runs_dir, cells = prepared(folder, tiny)
    done, stopped, held, wanted = (RunFolder(runs_dir, cell.name) for cell in cells[:4])
    first, second = attempt(stopped, cells[1].config), attempt(stopped, cells[1].config)
    finished = attempt(done, cells[0].config, end=lambda taken: taken.publish({}, train_flops=0))
    failed = attempt(held, cells[2].config, end=lambda taken: taken.fail(Failure("bug", "x"), ""))
    older, newer = attempt(wanted, cells[3].config), attempt(wanted, cells[3].config)
    died = runs_dir / "launches" / "died"
    died.mkdir(parents=True)
    Presence(died)
    os.utime(died / "heartbeat", (0, 0))
    freed = (first.stat().st_size + finished.stat().st_size) / 1e6
    with held.acquire(cells[2].config), at_work(runs_dir, "other", {wanted.name: 0}):
        status, shown = typed(capsys, "prune")
    assert status == 0
    assert shown.endswith("deleted; results are untouched")
    assert pruned_of(shown) == pytest.approx([freed, 0, 0], abs=0.06)
    assert [path.exists() for path in (first, second, finished, failed)] == [False, True, False, True]
    assert older.exists()
    assert newer.exists()
    assert done.is_done
    assert not died.exists()
    assert prune(runs_dir).checkpoints > 0, "now nobody is at work on the others"
    assert [path.exists() for path in (second, failed, older, newer)] == [True, True, False, True]
    assert prune(runs_dir).total == 0


def test_pruning_keeps_the_checkpoint_that_the_next_attempt_will_use(folder, tiny, attempt, monkeypatch):
    """The newest is broken and the one before it is of other code; the first of the run is what there is to go on."""
    runs_dir, cells = prepared(folder, tiny)
    run, config = RunFolder(runs_dir, cells[1].name), cells[1].config
    usable = attempt(run, config)
    with monkeypatch.context() as other:
        other.setattr(checkpoint, "digest", lambda: "other code")
        foreign = attempt(run, config)
    broken = attempt(run, config)
    broken.write_bytes(broken.read_bytes()[:-8] + b"********")
    prune(runs_dir)
    assert [path.exists() for path in (usable, foreign, broken)] == [True, False, False]
    with run.acquire(config) as taken:
        assert checkpoint.find(taken.earlier()).attempt == 1


def test_pruning_keeps_all_checkpoints_of_a_run_that_this_code_can_go_on_from_with_none(
    folder, tiny, attempt, monkeypatch
):
    runs_dir, cells = prepared(folder, tiny)
    run = RunFolder(runs_dir, cells[1].name)
    with monkeypatch.context() as other:
        other.setattr(checkpoint, "digest", lambda: "other code")
        foreign = [attempt(run, cells[1].config) for _ in range(2)]
    assert prune(runs_dir).total == 0
    assert all(path.exists() for path in foreign)


def test_pruning_deletes_code_and_logs_that_nobody_needs(folder, tiny, attempt, monkeypatch):
    runs_dir, cells = prepared(folder, tiny)

    def copy(content):
        path = runs_dir / "code" / content
        (path / "aimv2").mkdir(parents=True)
        (path / "aimv2" / "run.py").write_text(content)
        return path

    needed, unneeded, unfinished = copy("needed"), copy("unneeded"), copy(".partial")
    for path in (needed, unneeded, unfinished):
        os.utime(path, (0, 0))
    fresh = copy("fresh")
    with monkeypatch.context() as other:
        other.setattr(checkpoint, "digest", lambda: digest_of(needed / "aimv2"))
        attempt(RunFolder(runs_dir, cells[1].name), cells[1].config)

    def log(name, days):
        path = runs_dir / "workers" / name / "123"
        path.mkdir(parents=True)
        (path / "123_0_log.err").write_text("x" * 1000)
        then = time.time() - 86400 * days
        for one in (path / "123_0_log.err", path, path.parent):
            os.utime(one, (then, then))
        return path.parent

    young, old = log("young", 6), log("old", 8)
    with at_work(runs_dir, "other", {}):
        assert prune(runs_dir).total == 0, "a launch at work may have workers with that code, and their logs"
    freed = prune(runs_dir)
    assert (freed.checkpoints, freed.code, freed.logs) == (0, len("unneeded") + len(".partial"), 1000)
    assert [path.exists() for path in (needed, unneeded, unfinished, fresh)] == [True, False, False, True]
    assert [path.exists() for path in (young, old)] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats"], "unknown command 'stats'. Did you mean 'status'?"),
        (["status", "nothing"], "sweep 'nothing' was not launched into 'runs' yet; launched there: prefix_ratio_test"),
        (["status", "--jason"], "unknown flag of status '--jason'. Did you mean '--json'?"),
        (["status", "runs_dri=runs"], "unknown key of status 'runs_dri'. Did you mean 'runs_dir'?"),
        (["status", "runs_dir=nowhere"], "runs_dir='nowhere' is no folder"),
        (["logs"], "which run? Say one."),
        (["logs", "v1-x"], "0 runs in 'runs' begin with 'v1-x'; one is needed"),
        (["retry"], "which sweep? Say one. Launched into 'runs': prefix_ratio_test."),
        (["extend", "prefix_ratio_test"], "extend by what? Say seeds=8 or samples=40960."),
        (["extend", "prefix_ratio_test", "arms=2"], "unknown key of extend 'arms'"),
        (["extend", "prefix_ratio_test", "seeds=2", "seeds=3"], "seeds= is given twice; once is allowed"),
        (["status", "debug=perhaps"], "debug: Input should be a valid boolean"),
        (["cancel", "prefix_ratio", "--json"], "unknown flag of cancel '--json'"),
    ],
)
def test_bad_input_gets_one_sentence(folder, tiny, capsys, arguments, message):
    prepared(folder, tiny)
    capsys.readouterr()
    assert manage.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_lists_the_commands(capsys):
    assert manage.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {command} " in shown for command in manage.COMMANDS)


def test_an_empty_folder_has_nothing_to_show(folder, capsys):
    (folder / "runs").mkdir()
    assert typed(capsys, "status") == (0, "nothing was launched into this folder yet")
