"""Exporters: each copies records to a tracker, and may do so again.

A run keeps its identity there, which is its name. A later export adds what is new or replaces the run, so that a run
that was interrupted and resumed is one run, and none is there twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Protocol

from aimv2.base.errors import UsageError, unknown
from sweeps.export.record import FOLDER, Record


class Export(Protocol):
    def __call__(self, records: Sequence[Record], project: str, folder: Path) -> str:
        """Copy the records.

        Args:
            project: the name that the tracker shows them under.
            folder: for files of the tracker.

        Returns:
            a sentence that says where the runs are, and how to look at them.
        """


@dataclass(frozen=True)
class Exporter:
    """An exporter and what it needs: ``module:function``, the package that it imports, and how to install that."""

    function: str
    package: str
    install: str = "aimv2-ablations[exporters]"


EXPORTERS = {
    "tensorboard": Exporter("sweeps.export.to_tensorboard:export", "tensorboard", "tensorboard google-crc32c"),
    "wandb": Exporter("sweeps.export.to_wandb:export", "wandb"),
    "mlflow": Exporter("sweeps.export.to_mlflow:export", "mlflow"),
    # Not in the extra: version 0.43 refuses Pillow 13, which the other packages accept.
    "trackio": Exporter("sweeps.export.to_trackio:export", "trackio", "trackio"),
}


def export(records: Sequence[Record], to: str, project: str, runs_dir: Path) -> str:
    """Copy records to a tracker and return where they are.

    Raises:
        UsageError: the tracker is unknown, or its package is missing.
    """
    if to not in EXPORTERS:
        raise unknown("tracker", to, EXPORTERS)
    exporter = EXPORTERS[to]
    try:
        import_module(exporter.package)
    except ImportError as error:
        raise UsageError(
            f"to={to} needs the package {exporter.package} ({error}); install it: pip install '{exporter.install}'"
        ) from error
    function: Export = resolve_name(exporter.function)
    folder = runs_dir / FOLDER / to
    folder.mkdir(parents=True, exist_ok=True)
    return function(records, project, folder)
