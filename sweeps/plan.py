"""The runs of a request, and which of them are missing."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ablations.expand import Cell
from aimv2.config.run_config import RunConfig
from aimv2.runs.record import RunFolder, State


@dataclass(frozen=True)
class Plan:
    """Cells with their runs; cells with equal configs share a run."""

    title: str
    cells: list[Cell]
    runs_dir: Path

    @cached_property
    def runs(self) -> dict[str, RunFolder]:
        """Run folders by run name, longest runs first, so that no worker starts a long run last."""
        order = sorted(self.cells, key=lambda cell: -cell.config.budget.samples)
        return {cell.name: RunFolder(self.runs_dir, cell.name) for cell in order}

    @cached_property
    def cell_of(self) -> dict[str, Cell]:
        """A cell of each run, by run name."""
        return {cell.name: cell for cell in self.cells}

    def states(self) -> dict[str, State]:
        """Return the state of each run, by run name."""
        return {name: run.state() for name, run in self.runs.items()}

    def remaining(self) -> list[str]:
        """Return the names of the runs that are not done."""
        return [name for name, state in self.states().items() if state != "done"]

    def configs(self, names: Iterable[str]) -> list[RunConfig]:
        """Return the configs of these runs."""
        return [self.cell_of[name].config for name in names]

    def num_attempts(self) -> int:
        """Return the number of attempts at the plan's runs so far."""
        return sum(run.num_attempts for run in self.runs.values())

    def prepare_data(self) -> None:
        """Render pictures and train tokenizers before workers start, so that no run waits for them or fails there."""
        from aimv2.data.prepare import prepare

        for data, model in {(cell.config.data, cell.config.model) for cell in self.cells}:
            prepare(data, model, show_progress=True)
