"""What is done with a run, of AIMv2 or of another model (docs/another-model.md), and the execution of the latter.

Heavy packages, torch among them, are imported when they are needed.
"""

import contextlib
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from aimv2.base.errors import RunFailedError, short
from aimv2.base.files import replacing
from aimv2.base.interrupt import Interrupts
from aimv2.config.program import PROGRAMS, Program, Run
from aimv2.config.run_config import RunConfig
from aimv2.data import provenance
from aimv2.data.provenance import shares_of_captions
from aimv2.definitions.metrics import Metric, checked_value, unit_of
from aimv2.memory.machine import hardware
from aimv2.request import resolve
from aimv2.runs.attempt import CHECKPOINT, Attempt, attempted
from aimv2.runs.failure import Failure
from aimv2.runs.provenance import digest, git_commit, recorded_code
from aimv2.runs.rows import read_rows

Rows = Callable[[list[dict[str, Any]]], None]
STATE = "state.safetensors"


def resolved(run: Run, available: Literal["cuda", "cpu"] | None = None, *, needs_data: bool = True) -> Run:
    """Return the run with the values that it has on a machine, before it is named; ``resolve`` has the arguments."""
    if not isinstance(run, RunConfig):
        return run
    return cast(Run, resolve.resolve(run, available=available, needs_data=needs_data))


def missing_data(run: Program) -> str:
    """Return which data is missing on this machine, in a sentence; empty if none is known to be."""
    return resolve.missing_data(run.data.sources) if isinstance(run, RunConfig) else ""


def note_on_data(run: Program) -> str:
    """Return what a plan says of the run's data; empty if nothing."""
    return shares_of_captions(run.data) if isinstance(run, RunConfig) else ""


def prepare(runs: Iterable[Program]) -> None:
    """Render pictures and train tokenizers, so that no run waits for them or fails there."""
    from aimv2.data.prepare import prepare

    ours = [run for run in runs if isinstance(run, RunConfig)]
    for data, vocab_size in dict.fromkeys((run.data, run.model.vocab_size) for run in ours):
        prepare(data, vocab_size, show_progress=True)


def check_finished(runs: Iterable[Program]) -> None:
    """Raise a UsageError if the data that these finished runs have read are others now."""
    provenance.check_finished(run for run in runs if isinstance(run, RunConfig))


def load(runs: Iterable[Program]) -> None:
    """Import what ``execute`` needs, so that a broken installation is no failure of a run."""
    if any(isinstance(run, RunConfig) for run in runs):
        import aimv2.run.execute  # noqa: F401


def execute(
    run: Program,
    attempt: Attempt,
    on_rows: Rows = lambda rows: None,
    interrupts: Interrupts | None = None,
    *,
    trained: Path | None = None,
    gpus: Sequence[int] = (),
) -> Failure | None:
    """Do the attempt's run and publish its result, or record why it failed."""
    if not isinstance(run, RunConfig):
        return attempted(attempt, partial(_measure, run, attempt, on_rows, interrupts or Interrupts()))
    from aimv2.run.execute import execute

    return execute(attempt, run, on_rows, interrupts, trained=trained, gpus=gpus)


def follow(run: Program, interrupts: Interrupts) -> None:
    """Do the part of another rank than 0, until rank 0 ends; a run of another model has one rank."""
    assert isinstance(run, RunConfig), f"{run.kind} has one rank"
    from aimv2.run.execute import follow

    follow(run, interrupts)


class Recorder:
    """What ``measure`` records while it trains.

    Attributes:
        resumed: the arrays of the newest ``save`` of an earlier attempt of the same code; empty if there is none.
        first_step: the step after which they were saved; 0 if there are none.
    """

    def __init__(
        self,
        attempt: Attempt,
        program: Program,
        on_rows: Rows,
        interrupts: Interrupts,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._attempt, self._program = attempt, program
        self._on_rows, self._interrupts, self._clock = on_rows, interrupts, clock
        self.first_step, samples, self.resumed = _resumed(attempt)
        self._last = (samples, clock())  # of the last row, and when it was written

    def log(self, *, step: int, samples: int, **values: float) -> None:
        """Record a row of metrics: ``status`` shows ``*_loss``, and reports draw ``held_out_*``.

        Args:
            step: of the training, larger than that of the row before.
            samples: shown so far, of ``num_samples``.

        Raises:
            KeyboardInterrupt: the run was asked to stop.
            LeaseLostError: another process has taken over the run.
        """
        if self._interrupts.is_requested:
            raise KeyboardInterrupt
        before, at = self._last
        self._last = samples, self._clock()
        share = samples / max(self._program.num_samples, 1)
        row = {
            "step": step,
            "samples": samples,
            "train_flops": round(share * self._program.train_flops),
            "seconds": self._attempt.seconds,
            "images_per_second": (samples - before) / max(self._last[1] - at, 1e-9),
            **{name: float(value) for name, value in values.items()},
        }
        self._attempt.write_rows([row])
        self._on_rows([row])

    def save(self, step: int, state: Mapping[str, np.ndarray]) -> None:
        """Save what the next attempt needs to continue after a step, if this one is killed; log its row before."""
        from safetensors.numpy import save_file

        self._attempt.sync_rows()
        folder = self._attempt.folder / CHECKPOINT
        path = folder / f"{step:09d}" / STATE
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial_path:
            save_file({name: np.asarray(value, order="C") for name, value in state.items()}, partial_path)
        for other in folder.iterdir():
            if other != path.parent:
                (other / STATE).unlink(missing_ok=True)
                other.rmdir()
        self._attempt.mark_progress()


def _measure(program: Program, attempt: Attempt, on_rows: Rows, interrupts: Interrupts) -> None:
    manifest = _manifest(program)
    attempt.write_manifest(manifest)
    recorder = Recorder(attempt, program, on_rows, interrupts)
    values = program.measure(recorder)
    names = program.metrics
    if not isinstance(values, Mapping):
        raise RunFailedError("bug", f"measure() returned {short(values)}, not a dict with {', '.join(names)}")
    if set(values) != set(names):
        raise RunFailedError("bug", f"measure() returned {', '.join(values) or 'nothing'}, not {', '.join(names)}")
    about = {name: manifest[name] for name in ("host", "hardware", "threads", "code")}
    how = f"{program.split} split of {program.kind}"
    attempt.publish(
        {name: Metric.of(checked_value(name, values[name]), unit_of(name), how) for name in names},
        train_flops=program.train_flops,
        train_seconds=attempt.seconds,
        train_cpu_seconds=None,  # that of the evaluation is in it
        attempts=[{"attempt": int(attempt.folder.name), "from_step": recorder.first_step} | about],
    )
    attempt.remove_unfinished()


def _manifest(program: Program) -> dict[str, Any]:
    """Return versions of all imported packages that are installed, hardware and code."""
    imported = {name.partition(".")[0] for name in sys.modules}
    distributions = metadata.packages_distributions().items()
    packages = {package for name, packages in distributions if name in imported for package in packages}
    plugin = PROGRAMS.plugin_of(program.kind)
    return {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in sorted(packages)},
        "code": digest(),
        "commit": git_commit(),
        "plugin": None if plugin is None else {"name": plugin.name, "digest": plugin.digest},
        "command": sys.argv,
        "host": platform.node(),
        "hardware": hardware(program.device),
        "threads": program.threads,
        "trained": None,
    }


def _resumed(attempt: Attempt) -> tuple[int, int, Mapping[str, np.ndarray]]:
    """Return the newest state that this code saved, after its step and samples; the rows up to there become this
    attempt's."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    for earlier in attempt.earlier():
        for path in sorted(earlier.glob(f"{CHECKPOINT}/*/{STATE}"), reverse=True):
            with contextlib.suppress(OSError, SafetensorError, ValueError):  # broken, or gone since
                if recorded_code(earlier) == digest():
                    step, state = int(path.parent.name), load_file(path)
                    rows = [row for row in read_rows(earlier) if row["step"] <= step]
                    seconds, samples = (rows[-1]["seconds"], rows[-1]["samples"]) if rows else (0.0, 0)
                    attempt.resume_from(rows, seconds=seconds, cpu_seconds=0.0)
                    return step, samples, state
    return 0, 0, {}
