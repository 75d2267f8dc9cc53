"""Sweeps whose runs take half a second, done in this process."""

from pathlib import Path

from aimv2.ablations.request import Request, write_request
from aimv2.run.execute import execute
from aimv2.runs.record import RunFolder
from aimv2.sweeps.parse import parse
from tests.helpers.sweeps import SMALL

ARGUMENTS = ("sweep=prefix_ratio", "sweep.arms=[uniform]", "sweep.seeds=1", "executor=debug", *SMALL)


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
