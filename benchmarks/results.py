"""Results of benchmarks: tables with machine and date, as text, in a file, and as a page of the documentation."""

import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from aimv2.analysis.costs.ratios import Median
from aimv2.base.files import read_json, write_text

FILE = "benchmarks/results.json"  # results that the documentation shows
PAGE = "benchmarks/results.md"
PACKAGES = ("torch", "numpy", "polars", "timm", "transformers", "webdataset")  # whose versions matter, if imported
WIDE = 0.1  # a wider interval, relative to its median, gets a warning

Cell = Median | str | int | float | None


@dataclass
class Table:
    """Rows of a benchmark. All rows have the same columns; the first names the row."""

    title: str
    rows: list[dict[str, Cell]]
    note: str = ""

    @property
    def warning(self) -> str | None:
        """A sentence that names the uncertain medians, if there are any."""
        wide = [
            f"{next(iter(row.values()))} ({column})"
            for row in self.rows
            for column, cell in row.items()
            if isinstance(cell, Median) and not cell.high - cell.low <= WIDE * abs(cell.median)
        ]
        if not wide:
            return None
        return (
            f"warning: uncertain, because the interval is wider than {WIDE:.0%} or unknown: {', '.join(wide)}; stop"
            " other work on the machine, or use more repeats"
        )


@dataclass
class Result:
    """What a command measured.

    Attributes:
        command: as it was typed.
        date: as 2026-11-28.
        machine: the name of its processor or GPU, its cores and threads.
        versions: of packages.
    """

    benchmark: str
    command: str
    date: str
    machine: str
    tables: list[Table]
    versions: dict[str, str] = Field(default_factory=dict)


RESULTS = TypeAdapter(list[Result], config={"ser_json_inf_nan": "strings"})


def versions() -> dict[str, str]:
    """Return the versions of those of PACKAGES that are imported."""
    return {name: metadata.version(name) for name in PACKAGES if name in sys.modules}


def cell_text(cell: Cell) -> str:
    """Return a cell as text: numbers with four digits, medians with their intervals."""
    match cell:
        case None:
            return ""
        case str():
            return cell
        case Median():
            interval = "" if np.isnan(cell.low) else f" [{cell_text(cell.low)}, {cell_text(cell.high)}]"
            return cell_text(cell.median) + interval
    return f"{cell:,.0f}" if isinstance(cell, int) or abs(cell) >= 1000 else f"{cell:.4g}"


def to_markdown(table: Table) -> str:
    """Return a title, a table with aligned columns, and the note."""
    columns = list(table.rows[0])
    lines = [columns, *([cell_text(row[column]) for column in columns] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * max(width, 3) for width in widths])
    body = "\n".join(f"| {' | '.join(line)} |" for line in padded)
    return "\n\n".join(filter(None, [f"**{table.title}**", body, table.note]))


def read_results(path: Path) -> list[Result]:
    """Return the results in a file; none if it is missing."""
    return RESULTS.validate_python(read_json(path)) if path.exists() else []


def keep(result: Result, path: Path) -> None:
    """Add a result to a file, in the place of an older one of the same command on the same machine."""
    found = [one for one in read_results(path) if (one.command, one.machine) != (result.command, result.machine)]
    write_text(path, RESULTS.dump_json([*found, result], indent=1).decode() + "\n")


def page(results: Sequence[Result]) -> str:
    """Return the page of results, in the order of benchmarks and of the file within one."""
    parts = [
        "# Results of benchmarks",
        "```\npython -m benchmarks page\n```",
        f"This writes the page from `{FILE}`; [Benchmarks](../docs/benchmarks.md) explains it.\n"
        "Brackets hold 95 % intervals. With `clock=cpu` times are CPU seconds. An empty cell was not kept.",
    ]
    for benchmark in dict.fromkeys(result.benchmark for result in results):
        parts.append(f"## {benchmark}")
        for result in (one for one in results if one.benchmark == benchmark):
            packages = "".join(f", {name} {version}" for name, version in result.versions.items())
            parts.append(f"`{result.command}`: {result.machine}{packages}; {result.date}")
            parts += map(to_markdown, result.tables)
    return "\n\n".join(parts) + "\n"
