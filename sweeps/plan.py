"""Runs to do, and what is left of them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ablations.expand import Cell
from aimv2.config.run_config import RunConfig
from aimv2.runs.record import RunFolder, State


@dataclass(frozen=True)
class Plan:
    """Cells with their runs; cells that ask for the same run share it."""

    title: str
    cells: list[Cell]
    runs_dir: Path

    @cached_property
    def runs(self) -> dict[str, RunFolder]:
        """Run folders by signature, longest runs first, so that the end is not one worker with a long one."""
        order = sorted(self.cells, key=lambda cell: -cell.config.budget.samples)
        return {cell.name: RunFolder(self.runs_dir, cell.name) for cell in order}

    @cached_property
    def cell_of(self) -> dict[str, Cell]:
        """A cell that asks for each run, by signature."""
        return {cell.name: cell for cell in self.cells}

    def states(self) -> dict[str, State]:
        return {name: run.state() for name, run in self.runs.items()}

    def remaining(self) -> list[str]:
        return [name for name, state in self.states().items() if state != "done"]

    def configs(self, names: list[str]) -> list[RunConfig]:
        return [self.cell_of[name].config for name in names]

    def num_attempts(self) -> int:
        """How often runs of the plan were tried so far."""
        return sum(run.num_attempts for run in self.runs.values())
