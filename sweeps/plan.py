"""Runs to do, what is left of them, and what that costs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ablations.study import Cell
from aimv2.config import RunConfig
from aimv2.cost import train_flops
from aimv2.model.network import num_parameters
from aimv2.objectives import objective
from aimv2.record import RunFolder, State

BYTES_PER_PARAMETER = 4


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

    def num_attempts(self) -> int:
        """How often runs of the plan were tried so far."""
        return sum(run.num_attempts for run in self.runs.values())

    def flops(self, names: list[str]) -> int:
        """Training FLOPs of these runs, at most (captions may be shorter than their room)."""
        return sum(max_train_flops(self.cell_of[name].config) for name in names)

    def disk_bytes(self, names: list[str]) -> int:
        """Weights kept by these runs; the rest of a run is small beside them."""
        configs = [self.cell_of[name].config for name in names]
        distinct = {(config.model, config.objective): config for config in configs}
        sizes = {key: num_parameters(config) for key, config in distinct.items()}
        return BYTES_PER_PARAMETER * sum(sum(sizes[config.model, config.objective].values()) for config in configs)


def max_train_flops(config: RunConfig) -> int:
    """Training FLOPs of a run if every caption filled its T tokens: what can be said before the captions are read."""
    samples = config.budget.samples
    parts = objective(config.objective.name).cost(config)
    return train_flops(parts, samples, samples * config.model.max_text_tokens)
