"""Replay of a run of others' records: execute its config with our code, and compare it with what was recorded."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import Cell
from aimv2.analysis.evidence.load import Evidence, load
from aimv2.analysis.evidence.others import Replayed, mark_replayed, read_others
from aimv2.base.errors import UsageError, some
from aimv2.base.hardware import hardware
from aimv2.config.arguments import as_typed
from aimv2.config.program import Program
from aimv2.run.replay import compare, executed_again
from aimv2.runs.provenance import digest
from aimv2.runs.rows import OF_MACHINE

MAX_TOLERANCE = 0.1


def replay_others(folder: Path, name: str, tolerance: float, cache_dir: str, say: Callable[[str], None]) -> bool:
    """Execute a finished run of others' records here, compare final metrics and held-out curve, and record the outcome.

    Nothing of others is executed: the config is theirs, the code ours.

    Args:
        folder: ``records/<study>-<digest>``.
        name: the run's, or its beginning.
        tolerance: relative difference up to which values count as equal; 0 is to the last bit.
        cache_dir: of rendered pictures and tokenizers here.

    Returns:
        True if all values are equal.

    Raises:
        UsageError: there are no such records or no such finished run, the tolerance is no share up to MAX_TOLERANCE,
            or the run starts from weights, which records do not have.
        RunFailedError: the run failed here.
    """
    if not 0 <= tolerance <= MAX_TOLERANCE:
        raise UsageError(f"tolerance={tolerance:g} must be between 0, to the last bit, and {MAX_TOLERANCE:g}")
    others = read_others(folder.parent, folder.name, STUDIES)
    evidence = others.records.evidence
    done = set(evidence.runs["run"])
    cells = {cell.name: cell for cell in others.records.request.cells if cell.name in done}
    found = [cell for run, cell in cells.items() if run.startswith(name)]
    if len(found) != 1:
        raise UsageError(f"{len(found)} finished runs of {folder} begin with {name!r}; it has {some(sorted(cells))}")
    config = _here(found[0].config, cache_dir)
    cell = replace(found[0], config=config)
    with executed_again(config, say) as again:
        now = load([cell], again.path.parent)
        is_equal = compare(_values(evidence, cell), _values(now, cell), say, tolerance=tolerance)
    if (theirs := set(evidence.codes) - {digest()}) and not is_equal:
        say(f"their code was {some(sorted(theirs))} and ours is {digest()}")
    status = mark_replayed(
        folder.parent,
        folder.name,
        Replayed(
            run=cell.name,
            date=datetime.now(UTC).date().isoformat(),
            hardware=f"{hardware(config.device)}, {config.threads} threads",
            code=digest(),
            tolerance=tolerance,
            is_equal=is_equal,
        ),
    )
    say(f"{folder}: {status.described(len(done))}; {as_typed('report')} all --from-records shows it")
    return is_equal


def _here(config: Program, cache_dir: str) -> Program:
    """Return the config with this machine's places."""
    if config.starts_from_files:
        raise UsageError("this run needs weights to start from, which records do not have")
    return config.with_cache_dir(cache_dir)


def _values(evidence: Evidence, cell: Cell) -> dict[str, float]:
    """Return the final metrics of a run and its held-out curve, by name."""
    metrics = evidence.metrics[(evidence.metrics["arm"] == cell.arm) & (evidence.metrics["seed"] == cell.seed)]
    values = {str(name): float(value) for name, value in zip(metrics["metric"], metrics["value"], strict=True)}
    if evidence.curves.empty:
        return values
    own = (evidence.curves["arm"] == cell.arm) & (evidence.curves["seed"] == cell.seed)
    rows = evidence.curves[own].drop(columns=["arm", "seed", *OF_MACHINE], errors="ignore").set_index("step")
    curve = {f"{name} at step {step}": float(value) for name in rows for step, value in rows[name].dropna().items()}
    return values | curve
