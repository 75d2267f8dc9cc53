"""python analysis/scaling.py fit FILE n=… d=… loss=…: a scaling law from a table of runs of any source."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from aimv2.analysis.document.model import Document, Section
from aimv2.analysis.document.style import style
from aimv2.analysis.document.write import check_replaceable, show
from aimv2.analysis.inference.scaling.assess import assess
from aimv2.analysis.inference.scaling.frontier import SIX_N_D, fit_cost, frontier
from aimv2.analysis.inference.scaling.power_law import FitError, Variable, forms_of
from aimv2.analysis.sections.scaling.law import Fitted, conclusion, law_blocks, law_figure, law_numbers
from aimv2.analysis.tables import numbers, read_columns
from aimv2.analysis.usage import MIN_DRAWS, FitOptions, scaling_usage
from aimv2.base.errors import UsageError, unknown
from aimv2.base.markdown import escape
from aimv2.base.typed import as_typed
from aimv2.config.arguments import HELP, guarded, script_of
from aimv2.config.options import read_options


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
    document = report(Path(arguments[1]), options)
    show(document, options.out, export=options.export)
    return 0


def report(path: Path, options: FitOptions) -> Document:
    """Return the report on a file of runs.

    Raises:
        UsageError: the file, a column or a value cannot be used, or the runs cannot determine the form.
    """
    columns = options.columns
    variables: list[Variable] = [name for name in ("n", "d") if name in columns]
    if not variables:
        raise UsageError("which variable? Type n=COLUMN (size), d=COLUMN (samples or tokens), or both")
    if "loss" not in columns:
        raise UsageError("which loss? Type loss=COLUMN")
    forms = [form.name for form in forms_of(variables)]
    form = options.form or ("additive" if len(variables) > 1 else variables[0])
    if form not in forms:
        raise unknown("form", form, forms)
    if options.bootstrap < MIN_DRAWS:
        raise UsageError(
            f"bootstrap={options.bootstrap} is too few refits for an interval; allowed: {MIN_DRAWS} and more"
        )
    runs = read_runs(path, columns)
    try:
        law = assess(runs, variables, form, num_draws=options.bootstrap, huber=options.huber)
        cost = None if len(variables) < 2 else fit_cost(runs) if "flops" in runs else SIX_N_D
        optimum = frontier(law.bootstrap, cost) if cost and form.startswith("additive") else None
    except FitError as error:
        raise UsageError(f"no law can be fitted to {path}: {error}") from error
    labels = {name: columns[name] for name in (*variables, "loss")}
    meanings = {"L" if name == "loss" else name: f'column "{column}"' for name, column in labels.items()}
    fitted = Fitted(law, labels, meanings, cost, optimum)
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


def read_runs(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read the columns of a table under our names.

    Args:
        columns: columns of the file by ``n``, ``d``, ``loss``, ``seed`` and ``flops``; all but the seed are positive
            numbers.

    Raises:
        UsageError: the file is no table, a column is missing, or a value is missing, no number or not positive.
    """
    runs = read_columns(path, columns)
    for name in runs.columns.drop("seed", errors="ignore"):
        runs[name] = numbers(path, runs[name], columns[name], positive=True)
    return runs


if __name__ == "__main__":
    sys.exit(script())
