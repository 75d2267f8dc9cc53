"""The runs of a request, and which of them are missing."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aimv2.ablations.expand import Cell
from aimv2.ablations.request import Request
from aimv2.config.program import by_program
from aimv2.runs.attempt import LAYOUT_VERSION
from aimv2.runs.index import Entry
from aimv2.runs.provenance import code_of_lost_checkpoint
from aimv2.runs.record import RunFolder, entries
from aimv2.sweeps.tasks import Task, Work

NONE: Mapping[str, Path] = {}


@dataclass(frozen=True)
class Plan:
    """Cells with their runs; cells with equal configs share a run.

    Attributes:
        title: the name by which a launch of them is known: that of its study's report.
        requests: of the studies on which the launch ends with a report, in this order; none for runs of no study.
    """

    title: str
    cells: list[Cell]
    runs_dir: Path
    requests: tuple[Request, ...] = ()

    @cached_property
    def runs(self) -> dict[str, RunFolder]:
        """Run folders by run name, longest runs first, so that no worker starts a long run last."""
        order = sorted(self.cells, key=lambda cell: -cell.config.num_samples)
        return {cell.name: RunFolder(self.runs_dir, cell.name) for cell in order}

    @cached_property
    def cell_of(self) -> dict[str, Cell]:
        """A cell of each run, by run name."""
        return {cell.name: cell for cell in self.cells}

    def remaining(self, *, repair: bool = False) -> list[str]:
        """Return the names of the runs that are not done."""
        found = entries(self.runs_dir, repair=repair)
        done = {
            name for name, run in self.runs.items() if name in found and found[name].state == "done" and run.is_done
        }
        for name in done:
            if found[name].layout != LAYOUT_VERSION and not self.runs[name].problem():
                self.runs[name].result()  # says what is wrong with it
        return [name for name in self.runs if name not in done]

    def broken_results(self) -> list[str]:
        """Return which results cannot be read, a sentence each. These runs are not repeated, and are reported as
        failed."""
        return [problem for run in self.runs.values() if run.is_done and (problem := run.problem())]

    def check_finished(self, remaining: Collection[str]) -> None:
        """Raise a UsageError if data of a run that is not among the remaining ones has been edited."""
        finished = (cell.config for name, cell in self.cell_of.items() if name not in remaining)
        for kind, runs in by_program(finished).items():
            kind.check_data(runs)

    def work(self, names: Iterable[str], trained: Mapping[str, Path] = NONE) -> Work:
        """Return these runs as the work of a launch that begins now."""
        return Work([self._task(name, trained.get(name)) for name in names])

    def _task(self, name: str, trained: Path | None) -> Task:
        return Task(name, self.cell_of[name].config, self.runs[name].num_attempts, trained=trained)

    def prepare_data(self) -> None:
        """Prepare what the runs share before workers start, so that no run waits for it or fails there."""
        for kind, runs in by_program(cell.config for cell in self.cells).items():
            kind.prepare(runs)


def code_note(
    entries: Mapping[str, Entry], names: Iterable[str], new: Collection[str] = (), *, is_allowed: bool = False
) -> str:
    """Say which code the done runs among these are of, if one report would mix code; empty if it would not."""
    found = [one for name in names if (one := entries.get(name)) is not None and one.state == "done"]
    codes = Counter(one.code or "not recorded" for one in found)
    if len({*codes, *new}) < 2:
        return ""
    done = [f"done runs are of code {', '.join(f'{code} ({count})' for code, count in codes.items())}"] * bool(codes)
    each = ", ".join([*done, *(f"new ones of {code}" for code in new)])
    instead = "; code=DIGEST does the new runs with older code" if new else ""
    verdict = f"The report draws no verdict from the mixture, unless sweep.allow_mixed_code=true{instead}"
    if is_allowed:
        verdict = "The report draws verdicts from the mixture, since sweep.allow_mixed_code=true"
    return f"{each}. {verdict}"


def restart_note(runs: Iterable[RunFolder]) -> str:
    """Say which code's checkpoints these unfinished runs do not resume from, since it is other code; empty if none."""
    codes = Counter(code for run in runs if (code := code_of_lost_checkpoint(run.path)))
    each = ", ".join(f"{code} ({count})" for code, count in codes.items())
    text = f"interrupted runs start again at step 0, since their checkpoints are of other code: {each}"
    return f"{text}. To resume instead, launch with code=DIGEST" if codes else ""
