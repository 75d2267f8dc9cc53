"""Sweeps whose runs take half a second, done in this process."""

from pathlib import Path

from ablations.request import Request, write_request
from aimv2.execute import execute
from aimv2.runs.record import RunFolder
from sweeps.parse import parse

ARGUMENTS = (
    "sweep=prefix_ratio",
    "sweep.arms=[uniform]",
    "sweep.seeds=1",
    "sweep.controls=[]",
    "executor=debug",
    "budget.samples=64",
    "model.encoder.width=32",
    "model.encoder.depth=1",
    "model.encoder.num_heads=1",
    "model.decoder.width=32",
    "model.decoder.depth=1",
    "model.decoder.num_heads=1",
    "data.sources=[fontawesome]",
    "evaluation.num_pairs=32",
    "evaluation.curve_pairs=16",
    "evaluation.curve_points=2",
    "evaluation.num_examples=2",
    "evaluation.probe.epochs=1",
    "evaluation.probe.learning_rates=[1e-3]",
)


def small_arguments(runs_dir: Path, cache_dir: str, *more: str) -> list[str]:
    """Return the arguments of a small launch; those in ``more`` replace their like."""
    replaced = {word.partition("=")[0] for word in more}
    folders = (f"runs_dir={runs_dir}", f"reports_dir={runs_dir.parent / 'reports'}", f"data.cache_dir={cache_dir}")
    return [word for word in (*ARGUMENTS, *folders) if word.partition("=")[0] not in replaced] + list(more)


def requested(runs_dir: Path, cache_dir: str, *more: str) -> Request:
    """Record a request in the runs folder, as a launch does, and do none of its runs."""
    request = parse(small_arguments(runs_dir, cache_dir, *more)).request
    write_request(runs_dir, request)
    return request


def finished(runs_dir: Path, cache_dir: str, *more: str) -> Request:
    """Record a request and do its runs: one arm with one seed, and its untrained encoder."""
    request = requested(runs_dir, cache_dir, *more)
    for cell in request.cells:
        attempt = RunFolder(runs_dir, cell.name).acquire(cell.config)
        assert attempt is not None
        execute(attempt, cell.config)
    return request
