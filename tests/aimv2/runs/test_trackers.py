"""What trackers have of attempts: MLflow and W&B for real, Trackio by its documented calls; and servers that hang."""

import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from aimv2.runs import trackers
from aimv2.runs.rows import read_rows
from aimv2.runs.trackers import Trackers, follow
from tests.helpers.programs import skip_without
from tests.helpers.wandb_files import history, wandb_records

# What ``trackio.init``, ``log`` and ``finish`` are documented to do, in a file. TROUBLE is what happens instead.
TRACKIO = """
import json, os, time
from pathlib import Path

class Run:
    def __init__(self, project, name, config):
        self.path = Path(os.environ["TRACKIO_DIR"]) / f"{project}.{name}.json"
        self.logs = json.loads(self.path.read_text()) if self.path.exists() else []
        self._next_step = max([step for step, _ in self.logs], default=-1) + 1

    def log(self, metrics, step):
        self.logs.append((step, metrics))
        self.path.write_text(json.dumps(self.logs))

    def finish(self):
        self.path.with_suffix(".finished").touch()

def init(project, *, name, config, resume, embed, auto_log_gpu, auto_log_cpu):
    assert (resume, embed) == ("allow", False)
    print("printed by the package")
    exec(os.environ.get("TROUBLE", ""))
    return Run(project, name, config)
"""


def row(step, **values):
    return {"step": step, "samples": 8 * step, "seconds": 2.0 * step, "text_loss": 4 / (step + 1), **values}


@pytest.fixture
def trackio(tmp_path, monkeypatch):
    """Put that package where other processes and this one find it; return the function that reads what it has."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "trackio.py").write_text(TRACKIO)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'packages'}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    monkeypatch.setenv("TRACKIO_PROJECT", "study")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    yield lambda run: json.loads((tmp_path / f"study.{run.name}.json").read_text())
    sys.modules.pop("trackio", None)


@pytest.fixture
def tracked(tiny):
    return replace(tiny, log=replace(tiny.log, trackio=True))


def wait_for(trackio, run, step):
    """Wait until this step was sent: an attempt waits for some seconds only, and its tracker may take long to start."""
    while True:
        with contextlib.suppress(FileNotFoundError, ValueError):  # not there yet, or not whole
            if step in dict(trackio(run)):
                return
        time.sleep(0.05)


def test_rows_are_there_once_the_attempt_has_ended_and_a_resumed_one_continues_the_run(run, tracked, trackio, capsys):
    """The second attempt resumes from step 2, and repeats step 3."""
    with run.acquire(tracked) as first:
        first.write_rows([row(n) for n in range(4)])
        wait_for(trackio, run, 0)
    with run.acquire(tracked) as second:
        second.resume_from([row(n) for n in range(3)], seconds=4.0, cpu_seconds=4.0)
        second.write_rows([row(3), row(4, held_out_caption_loss=None)])
        second.sync_rows()
        wait_for(trackio, run, 4)
    found = trackio(run)
    assert [step for step, _ in found] == [0, 1, 2, 3, 4]
    assert found[4][1] == {"train/samples": 32, "machine/seconds": 8.0, "train/text_loss": 0.8}
    assert "printed by the package" in (second.folder / "trackio.log").read_text()
    assert capsys.readouterr() == ("", "")


def test_a_forked_process_does_not_hold_up_the_end(run, tracked, trackio, capsys):
    """Loader processes inherit the pipe, and may live longer than the attempt."""
    fork = multiprocessing.get_context("fork")
    is_over = fork.Event()
    loader = fork.Process(target=is_over.wait)
    with contextlib.suppress(KeyboardInterrupt), run.acquire(tracked) as attempt:
        attempt.write_rows([row(0)])
        wait_for(trackio, run, 0)
        loader.start()
        raise KeyboardInterrupt
    is_over.set()
    loader.join()
    assert [step for step, _ in trackio(run)] == [0]
    assert capsys.readouterr() == ("", "")


def test_rows_are_sent_while_the_run_trains_and_a_line_that_is_not_whole_later(run, tracked, trackio, tmp_path):
    with run.acquire(replace(tracked, log=replace(tracked.log, trackio=False))) as attempt:
        pass
    (run.path / "config.json").write_text(json.dumps({"log": {"trackio": True}}))
    whole, seen = json.dumps(row(1)), []
    parts = iter([json.dumps(row(0)) + "\n" + whole[:9], whole[9:] + "\n", json.dumps(row(2)) + "\n"])

    def state():
        if (part := next(parts, None)) is None:
            return "done"
        seen.append([step for step, _ in trackio(run)] if seen else [])
        with (attempt.folder / "metrics.jsonl").open("a") as file:
            file.write(part)
        return None

    follow("trackio", attempt.folder, state)
    assert seen == [[], [0], [0, 1]]
    assert [step for step, _ in trackio(run)] == [0, 1, 2]
    assert (tmp_path / f"study.{run.name}.finished").exists()


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("raise ConnectionError('nobody there')", "nobody there"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'; install it: pip install 'aimv2"),
    ],
)
def test_tracker_that_fails_is_one_warning(run, tracked, trackio, monkeypatch, capsys, trouble, why):
    monkeypatch.setenv("TROUBLE", trouble)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what the package has printed would come at its end
    with run.acquire(tracked) as attempt:
        attempt.write_rows([row(0)])
        attempt.write_rows([row(1)])
        attempt.sync_rows()
    assert [one["step"] for one in read_rows(attempt.folder)] == [0, 1]
    assert capsys.readouterr().err.count(f"no more rows in trackio of {attempt.folder}: {why}") == 1


def test_tracker_that_does_not_answer_is_ended_with_a_warning(run, tracked, trackio, monkeypatch, capsys):
    monkeypatch.setenv("TROUBLE", "time.sleep(3600)")
    with run.acquire(replace(tracked, log=replace(tracked.log, trackio=False))) as attempt:
        attempt.write_rows([row(0)])
    trackers = Trackers(attempt.folder, tracked.log)
    trackers.flush()
    (process,) = trackers._processes.values()
    trackers.close("done", patience=0.5)
    assert process.returncode == -9
    assert capsys.readouterr().err == f"no more rows in trackio of {attempt.folder}: it did not answer within 0.5 s\n"


def test_process_ends_with_the_one_that_it_follows(run, tracked, trackio, tmp_path):
    """A killed process closes its end of the pipe."""
    with run.acquire(replace(tracked, log=replace(tracked.log, trackio=False))) as attempt:
        attempt.write_rows([row(0)])
    (run.path / "config.json").write_text(json.dumps({"log": {"trackio": True}}))
    command = [sys.executable, "-m", trackers.__name__, "trackio", str(attempt.folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [step for step, _ in trackio(run)] == [0]


def test_trackers_that_are_off_start_nothing(run, tiny):
    with run.acquire(tiny) as attempt:
        attempt.write_rows([row(0)])
    assert not list(attempt.folder.glob("*.log"))


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("default")  # of its packages
@pytest.mark.parametrize("ending", ["done", "failed", ""])
def test_mlflow_has_each_step_once(run, tiny, tmp_path, ending):
    skip_without(find_spec("mlflow"), "no package mlflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    config = replace(tiny, log=replace(tiny.log, mlflow=uri))
    for rows in ([row(n) for n in range(4)], [row(n) for n in (0, 1, 2, 3, 4)]):
        with run.acquire(replace(config, log=tiny.log)) as attempt:
            attempt.write_rows(rows)
        with run.acquire(config):  # its config is on disk
            pass
        follow("mlflow", attempt.folder, lambda: ending)
    client = MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("aimv2").experiment_id])
    assert (found.info.run_name, found.info.status) == (
        run.name,
        {"done": "FINISHED", "failed": "FAILED", "": "KILLED"}[ending],
    )
    assert found.data.params["model.image_px"] == "16"
    losses = client.get_metric_history(found.info.run_id, "train/text_loss")
    assert [(one.step, one.value) for one in losses] == [(n, 4 / (n + 1)) for n in range(5)]
    assert losses[3].timestamp - losses[2].timestamp == 2000


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("default")
def test_wandb_without_a_key_writes_an_offline_run_with_every_row(run, tiny, monkeypatch, tmp_path):
    skip_without(find_spec("wandb"), "no package wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with run.acquire(replace(tiny, log=replace(tiny.log, wandb=True))) as attempt:
        attempt.write_rows([row(n) for n in range(3)])
    (folder,) = (attempt.folder / "wandb").glob("offline-run-*")
    found = wandb_records(folder)
    (one,) = [one.run for one in found if one.run.run_id]
    assert (one.run_id, one.project) == (run.name, "aimv2")
    assert {step: values["train/text_loss"] for step, values in history(found).items()} == {0: 4.0, 1: 2.0, 2: 4 / 3}


@pytest.mark.exhaustive
@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
@pytest.mark.parametrize("is_there", [True, False])
def test_server_that_hangs_or_refuses_is_one_warning(run, tiny, monkeypatch, capsys, tracker, is_there):
    skip_without(find_spec(tracker), f"no package {tracker}")
    with socket.create_server(("127.0.0.1", 0)) as server:  # which accepts, and says nothing
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name, value in {"BASE_URL": url, "API_KEY": "a" * 40, "MODE": "online"}.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        if not is_there:
            server.close()
        with run.acquire(tiny) as attempt:
            attempt.write_rows([row(0)])
        log = replace(tiny.log, wandb=tracker == "wandb", mlflow=url if tracker == "mlflow" else None)
        (run.path / "config.json").write_text(json.dumps({"log": {"wandb": log.wandb, "mlflow": log.mlflow}}))
        own = Trackers(attempt.folder, log)
        own.flush()
        own.close("done", patience=1.0)
    assert capsys.readouterr().err.count(f"no more rows in {tracker} of {attempt.folder}: ") == 1
    assert Path(attempt.folder / f"{tracker}.log").exists()
