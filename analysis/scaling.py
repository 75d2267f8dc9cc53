"""python analysis/scaling.py fit FILE n=… d=… loss=…: a scaling law from a table of runs of any source."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from aimv2.analysis.document.model import Document, Section
from aimv2.analysis.document.style import style
from aimv2.analysis.document.write import check_replaceable, show
from aimv2.analysis.inference.power_law import FitError, Variable
from aimv2.analysis.inference.scaling import assess
from aimv2.analysis.sections.scaling import Fitted, conclusion, law_blocks, law_figure, law_numbers
from aimv2.analysis.tables import numbers, read_columns
from aimv2.analysis.usage import FitOptions, scaling_usage
from aimv2.base.errors import UsageError, escape, unknown
from aimv2.config.arguments import HELP, as_typed, guarded, read_options, script_of


def main(arguments: Sequence[str]) -> int:
    """Fit a law; the exit status is 0 when it is printed and 2 when that is not possible."""
    if not arguments or HELP & set(arguments):
        print(scaling_usage(), end="")
        return 0 if arguments else 2
    return guarded(_fit, arguments, as_typed("scaling"))


def script() -> int:
    """The console script."""
    return script_of(main)


def _fit(arguments: Sequence[str]) -> int:
    if arguments[0] != "fit":
        raise unknown("command", arguments[0], ["fit"])
    if len(arguments) < 2 or "=" in arguments[1]:
        raise UsageError(f"which file? Type {as_typed('scaling')} fit FILE n=COLUMN d=COLUMN loss=COLUMN")
    options = read_options(FitOptions, arguments[2:])
    if options.out:
        check_replaceable(Path(options.out))
    show(report(Path(arguments[1]), options), options.out, export=options.export)
    return 0


def report(path: Path, options: FitOptions) -> Document:
    """Return the report on a file of runs.

    Raises:
        UsageError: the file, a column or a value cannot be used, or the runs cannot determine the law.
    """
    columns = options.columns
    variables: list[Variable] = [name for name in ("n", "d") if name in columns]
    if not variables:
        raise UsageError("which variable? Type n=COLUMN (size), d=COLUMN (samples or tokens), or both")
    runs = read_columns(path, columns)
    for name in runs.columns.drop("seed", errors="ignore"):
        runs[name] = numbers(path, runs[name], columns[name], positive=True)
    if "flops" not in runs and len(variables) > 1:
        runs["flops"] = 6 * runs["n"] * runs["d"]
    try:
        law = assess(runs, variables, huber=options.huber)
    except FitError as error:
        raise UsageError(f"no law can be fitted to {path}: {error}") from error
    labels = {name: columns[name] for name in (*variables, "loss")}
    meanings = {"L" if name == "loss" else name: f'column "{column}"' for name, column in labels.items()}
    fitted = Fitted(law, labels, meanings)
    with style():
        figure = law_figure(fitted)
    return Document(
        title=f"Scaling law of {escape(path.name)}",
        subtitle=f"{len(runs)} runs, {len(runs[variables].drop_duplicates())} settings.",
        answer=conclusion(fitted),
        lead=figure,
        sections=[Section("Scaling law", law_blocks(fitted))],
        numbers=law_numbers(fitted),
    )


if __name__ == "__main__":
    sys.exit(script())
