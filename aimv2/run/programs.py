"""What is done with a run, of AIMv2 or of another model (docs/another-model.md).

Heavy packages, torch among them, are imported when they are needed.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from aimv2.base.interrupt import Interrupts
from aimv2.config.program import Program, Run
from aimv2.config.run_config import RunConfig
from aimv2.data import provenance
from aimv2.data.provenance import shares_of_captions
from aimv2.request import resolve
from aimv2.runs.attempt import Attempt
from aimv2.runs.failure import Failure

Rows = Callable[[list[dict[str, Any]]], None]


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
        from aimv2.run import other_model

        return other_model.execute(run, attempt, on_rows, interrupts)
    from aimv2.run.execute import execute

    return execute(attempt, run, on_rows, interrupts, trained=trained, gpus=gpus)


def follow(run: Program, interrupts: Interrupts) -> None:
    """Do the part of another rank than 0, until rank 0 ends; a run of another model has one rank."""
    assert isinstance(run, RunConfig), f"{run.kind} has one rank"
    from aimv2.run.execute import follow

    follow(run, interrupts)
