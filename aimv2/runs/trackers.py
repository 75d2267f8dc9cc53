"""Trackers: Weights & Biases, MLflow and Trackio, which get the rows of a run while it trains.

A run has its own name there, so that every attempt continues the same run. Packages are imported when they are used.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aimv2.base.files import read_json
from aimv2.base.processes import imports_from
from aimv2.config.program import flattened
from aimv2.config.training_config import LogConfig
from aimv2.runs.events import Row, scalars_of
from aimv2.runs.provenance import PACKAGE
from aimv2.runs.rows import ROWS

PROJECT = "aimv2"  # of runs, unless the variables of a tracker's own name another
CLOSE_SECONDS = 20.0  # for the last rows, at the end of an attempt
RELEASE_SECONDS = 5.0  # likewise, of one that is interrupted: schedulers do not wait long
POLL_SECONDS = 2.0
INSTALL = "pip install 'aimv2-ablations[trackers]'; for Trackio: pip install trackio"
RUN_TAG = "aimv2.run"

Value = float | str


class Wandb:
    """A run of Weights & Biases, created or continued: online with a key, unless WANDB_MODE says otherwise; else in a
    folder, for ``wandb sync``.

    Attributes:
        newest: the newest step that it has, or -1.
    """

    def __init__(
        self, name: str, config: Mapping[str, Any], folder: Path, is_on: bool = True, project: str = "", group: str = ""
    ) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
        self._run = wandb.init(
            project=project or os.environ.get("WANDB_PROJECT", PROJECT),
            id=name,
            name=name,
            group=group or None,
            config=dict(config),
            dir=folder,
            mode=mode,
            resume="allow" if mode == "online" else None,  # offline there is no server to ask
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True),
        )
        self.newest = self._run.step - 1 if self._run.resumed else -1

    def log(self, rows: Sequence[Row], started: float) -> None:
        """Add rows of newer steps; their seconds count from ``started``, in seconds since 1970."""
        for row in rows:
            time_of_row = started + row.get("seconds", 0.0)
            self._run.log({**scalars_of(row), "time": time_of_row}, step=row["step"])

    def summarise(self, values: Mapping[str, Value]) -> None:
        """Set final values, in the place of earlier ones."""
        self._run.summary.update(dict(values))

    def close(self, state: str) -> None:
        """Send what is left; the attempt has ended in this state, which is empty if its process died."""
        self._run.finish(exit_code=int(state != "done"))


class Mlflow:
    """A run of MLflow, as ``Wandb``. A tag finds it again, since MLflow itself chooses its id."""

    def __init__(
        self, name: str, config: Mapping[str, Any], folder: Path, uri: str, project: str = "", group: str = ""
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        self._metric, self._tag, self._client = Metric, RunTag, MlflowClient(tracking_uri=uri)
        project = project or os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(project)
        found = self._client.search_runs([number], filter_string=f"tags.`{RUN_TAG}` = '{name}'")
        run = found[0] if found else self._client.create_run(number, run_name=name, tags={RUN_TAG: name})
        self._id = run.info.run_id
        self._client.update_run(self._id, status="RUNNING")
        new = [Param(key, str(value)) for key, value in config.items() if key not in run.data.params]
        self._client.log_batch(self._id, params=new, tags=[RunTag("group", group)] if group else [])
        steps = self._client.get_metric_history(self._id, "train/samples") if run.data.metrics else []
        self.newest = max((one.step for one in steps), default=-1)

    def log(self, rows: Sequence[Row], started: float) -> None:
        found = [
            self._metric(tag, value, int(1000 * (started + row.get("seconds", 0.0))), row["step"])
            for row in rows
            for tag, value in scalars_of(row).items()
        ]
        self._client.log_batch(self._id, metrics=found)

    def summarise(self, values: Mapping[str, Value]) -> None:
        # The same value at the same time is there once, however often it is logged.
        numbers = [self._metric(key, value, 0, 0) for key, value in values.items() if not isinstance(value, str)]
        texts = [self._tag(key, value) for key, value in values.items() if isinstance(value, str)]
        self._client.log_batch(self._id, metrics=numbers, tags=texts)

    def close(self, state: str) -> None:
        self._client.set_terminated(self._id, {"done": "FINISHED", "failed": "FAILED"}.get(state, "KILLED"))


class Trackio:
    """A run of Trackio, as ``Wandb``."""

    def __init__(self, name: str, config: Mapping[str, Any], folder: Path, is_on: bool = True) -> None:
        import trackio

        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self._run = trackio.init(
            project, name=name, config=dict(config), resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False
        )
        self.newest = self._run._next_step - 1  # it has no public name in trackio 0.43

    def log(self, rows: Sequence[Row], started: float) -> None:
        for row in rows:
            self._run.log(scalars_of(row), step=row["step"])

    def close(self, state: str) -> None:
        self._run.finish()


class Trackers:
    """Processes that send the rows of an attempt to trackers, each to one, so that no server holds up training.

    A failure is one warning, and ends no run.

    Args:
        folder: the attempt's. Its config and rows are on disk.
    """

    def __init__(self, folder: Path, log: LogConfig) -> None:
        self._folder = folder
        self._wanted = [name for name in TRACKERS if getattr(log, name)]
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def flush(self) -> None:
        """Start the processes, which read the rows from the attempt's file, and warn if one has ended."""
        while self._wanted:
            self._start(self._wanted.pop())
        for name in [name for name, process in self._processes.items() if process.poll() is not None]:
            self._lose(name)

    def _start(self, name: str) -> None:
        try:
            with self._log(name).open("w") as log:
                self._processes[name] = subprocess.Popen(
                    # -u: the log is in the order of time, and ends in the error
                    [sys.executable, "-u", "-m", "aimv2.runs.trackers", name, str(self._folder)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    text=True,
                    env=os.environ | imports_from(PACKAGE.parent),
                    start_new_session=True,  # Ctrl-C is for the run, which ends it
                )
        except OSError as error:
            print(f"no rows in {name} of {self._folder}: {error}", file=sys.stderr)

    def close(self, state: str, *, patience: float | None = None) -> None:
        """Wait until the last rows are sent.

        Args:
            state: of the run: ``done``, ``failed`` or ``idle``.
            patience: seconds at most; by default fewer if the run was interrupted.
        """
        patience = patience or (RELEASE_SECONDS if state == "idle" else CLOSE_SECONDS)
        for process in self._processes.values():
            assert process.stdin is not None, "it is a pipe"
            with contextlib.suppress(OSError), process.stdin:  # it may have ended
                process.stdin.write(f"{state}\n")  # forked processes may hold the pipe open, so its end says nothing
        until = time.monotonic() + patience
        for name, process in list(self._processes.items()):
            try:
                if process.wait(max(until - time.monotonic(), 0.0)):
                    self._lose(name)
            except subprocess.TimeoutExpired:
                self._lose(name, f"it did not answer within {patience:g} s")

    def _lose(self, name: str, why: str = "") -> None:
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with its own processes
        process.communicate()  # closes the pipe
        lines = list[str]()
        with contextlib.suppress(OSError):
            lines = self._log(name).read_text(errors="replace").splitlines()
        why = why or next((line for line in reversed(lines) if line.strip()), "it has ended")
        print(f"no more rows in {name} of {self._folder}: {why}", file=sys.stderr)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def follow(name: str, folder: Path, state_of: Callable[[], str | None]) -> None:
    """Send the rows of an attempt to a tracker, as they are written, until the attempt ends.

    Args:
        state_of: waits a moment, and returns the state in which the attempt has ended; None while it goes on.
    """
    run, started = folder.parents[1], 0.0
    config = read_json(run / "config.json")
    tracker = TRACKERS[name](run.name, flattened(config), folder, config["log"][name])
    state, rest = None, ""  # the beginning of a line that is not whole yet
    with (folder / ROWS).open() as file:
        while state is None:
            state = state_of()
            *lines, rest = (rest + file.read()).split("\n")
            if rows := [json.loads(line) for line in lines]:
                started = started or time.time() - rows[-1].get("seconds", 0.0)
                tracker.log([row for row in rows if row["step"] > tracker.newest], started)
    tracker.close(state)


def _state() -> str | None:
    """Return the line that the attempt's process wrote at its end, empty if it died; None while there is none."""
    ready, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
    if not ready:
        return None
    signal.alarm(int(CLOSE_SECONDS))  # ends this process, whatever the server does
    return sys.stdin.readline().strip()


def main(name: str, folder: str) -> None:
    """Follow an attempt. The last line of the log is the reason of a failure."""
    try:
        follow(name, Path(folder), _state)
    except ImportError as error:
        sys.exit(f"{error}; install it: {INSTALL}")
    except Exception as error:  # of any kind, from a refused connection to a package's own
        traceback.print_exc()
        sys.exit(str(error).strip().partition("\n")[0] or type(error).__name__)


TRACKERS: dict[str, Callable[..., Wandb | Mlflow | Trackio]] = {
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
