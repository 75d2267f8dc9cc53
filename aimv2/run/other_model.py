"""The execution of another model's run (docs/another-model.md). Nothing here imports torch."""

import contextlib
import platform
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from aimv2.base.errors import RunFailedError, short
from aimv2.base.files import replacing
from aimv2.base.hardware import hardware
from aimv2.base.interrupt import Interrupts
from aimv2.config.program import PROGRAMS, Program
from aimv2.definitions.metrics import Metric, checked_value, unit_of
from aimv2.runs.attempt import CHECKPOINT, Attempt, attempted
from aimv2.runs.failure import Failure
from aimv2.runs.provenance import digest, git_commit, recorded_code
from aimv2.runs.rows import read_rows

Rows = Callable[[list[dict[str, Any]]], None]
STATE = "state.safetensors"


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


def execute(program: Program, attempt: Attempt, on_rows: Rows, interrupts: Interrupts | None = None) -> Failure | None:
    """Execute another model's run, as ``aimv2.run.programs.execute`` says."""
    return attempted(attempt, partial(_measure, program, attempt, on_rows, interrupts or Interrupts()))


def _measure(program: Program, attempt: Attempt, on_rows: Rows, interrupts: Interrupts) -> None:
    manifest = _manifest(program)
    attempt.write_manifest(manifest)
    recorder = Recorder(attempt, program, on_rows, interrupts)
    found = program.measure(recorder)
    names = program.metrics
    if not isinstance(found, Mapping):
        raise RunFailedError("bug", f"measure() returned {short(found)}, not a dict with {', '.join(names)}")
    if set(found) != set(names):
        raise RunFailedError("bug", f"measure() returned {', '.join(found) or 'nothing'}, not {', '.join(names)}")
    about = {name: manifest[name] for name in ("host", "hardware", "threads", "code")}
    attempt.publish(
        {
            name: Metric.of(checked_value(name, found[name]), unit_of(name), f"{program.split} split of {program.kind}")
            for name in names
        },
        train_flops=program.train_flops,
        train_seconds=attempt.seconds,
        train_cpu_seconds=None,  # that of the evaluation is in it
        attempts=[{"attempt": int(attempt.folder.name), "from_step": recorder.first_step} | about],
    )
    attempt.remove_unfinished()


def _manifest(program: Program) -> dict[str, Any]:
    """Return versions of all imported packages that are installed, hardware and code."""
    imported = {name.partition(".")[0] for name in sys.modules}
    packages = {own for name, owns in metadata.packages_distributions().items() if name in imported for own in owns}
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
