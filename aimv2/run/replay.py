"""Replay: execute a finished run again and compare it with its record, value by value."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import read_json
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import LogConfig
from aimv2.run.programs import execute
from aimv2.runs.provenance import find_plugins
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import OF_MACHINE

PROVENANCE = ("code", "commit", "hardware", "threads", "versions", "data", "tokenizer")  # what else is compared


def replay(run: RunFolder, say: Callable[[str], None] = print) -> bool:
    """Execute a finished run again in a temporary folder; return True if all its values are equal."""
    if not run.is_done:
        raise UsageError(f"run {run.name} is not done yet; only a finished run can be replayed")
    config = RunConfig.from_dict(read_json(run.path / "config.json"))
    find_plugins(config, run.path.parent)
    if config.name != run.name:
        raise UsageError(
            f"{run.path / 'config.json'} is not the config of {run.name}: this version names it differently"
        )
    with executed_again(config, say, run.path.parent) as again:
        is_equal = compare(_values(run), _values(again), say)
        before, after = (read_json(one.file("manifest.json")) for one in (run, again))
        for key in PROVENANCE:
            if before.get(key) != after.get(key):
                say(f"{key} was {before.get(key)} and is {after.get(key)}")
    say("equal to the last bit" if is_equal else "not equal")
    return is_equal


@contextmanager
def executed_again(config: Program, say: Callable[[str], None], runs_dir: Path = Path()) -> Iterator[RunFolder]:
    """Execute a run in a temporary folder, which is there until the context is left."""
    if isinstance(config, RunConfig):  # no tracker hears of it
        config = replace(config, log=LogConfig(every_steps=config.log.every_steps))
    name = config.name
    say(f"executing {name} again in a temporary folder")
    with tempfile.TemporaryDirectory() as folder:
        again = RunFolder(Path(folder), name)
        attempt = again.acquire(config)
        assert attempt is not None, "the folder is new"
        alone = config.evaluation.alone if isinstance(config, RunConfig) else None
        failure = execute(config, attempt, trained=None if alone is None else runs_dir / alone.run)
        if failure is not None:
            raise RunFailedError(failure.cause, f"the replay failed ({failure.cause}): {failure.message}")
        yield again


def compare(
    was: Mapping[str, Any], now: Mapping[str, Any], say: Callable[[str], None], *, tolerance: float = 0.0
) -> bool:
    """Compare recorded values with those of a replay, and say how many differ and which most."""
    shared = was.keys() & now.keys()
    differ = {name: abs(was[name] - now[name]) for name in shared if not _agree(was[name], now[name], tolerance)}
    say(f"{len(was)} values of steps and final metrics compared, {len(differ)} differ")
    if differ:
        largest = max(differ, key=lambda name: differ[name])
        say(f"largest difference: {largest} was {was[largest]!r} and is {now[largest]!r}")
    if alone := sorted(was.keys() ^ now.keys()):
        say(f"in only one of the two: {', '.join(alone[:5])}")
    return not differ and not alone


def _agree(was: Any, now: Any, tolerance: float) -> bool:
    return bool(was == now or (tolerance and math.isclose(was, now, rel_tol=tolerance)))


def _values(run: RunFolder) -> dict[str, Any]:
    rows = run.metrics().drop(columns=list(OF_MACHINE), errors="ignore").set_index("step")
    values = {f"{name} at step {step}": value for name in rows for step, value in rows[name].dropna().items()}
    return values | {name: metric["value"] for name, metric in run.result()["metrics"].items()}
