"""python analysis/scaling.py fit FILE n=… d=… loss=…: a scaling law from a table of runs of any source."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
from aimv2.base.errors import UsageError, unknown
from pydantic import PositiveFloat
from rich.console import Console
from rich.markdown import Markdown

from aimv2.cli import guarded
from aimv2.config.arguments import HELP, checked, key_values
from analysis.document.markdown import to_markdown
from analysis.document.model import Document, Figure, Section, escape
from analysis.document.style import style
from analysis.document.write import write
from analysis.inference.scaling.assess import assess
from analysis.inference.scaling.bootstrap import NUM_DRAWS
from analysis.inference.scaling.frontier import SIX_N_D, fit_cost, frontier
from analysis.inference.scaling.power_law import FitError, Variable, forms_of
from analysis.sections.scaling.law import Fitted, conclusion, law_blocks, law_figure, law_numbers

MIN_DRAWS = 100  # below, the ends of a 95 % percentile interval are nearly the range of the refits
USAGE = f"""usage: python analysis/scaling.py fit FILE [n=COLUMN] [d=COLUMN] loss=COLUMN [key=value ...]

Fit a scaling law to the runs in a CSV file, one a row: L = E + A n^-a + B d^-b, or a power law of one variable. Print
the test of several forms on the largest runs, the fit with intervals, what is not identified, and the compute-optimal
frontier.

  n=COLUMN                     size of the model, such as its parameters
  d=COLUMN                     data seen in training: samples or tokens; n or d may be left out
  loss=COLUMN                  what falls with both; positive
  seed=COLUMN                  runs with the same seed in several settings are a block; default: runs are independent
  flops=COLUMN                 training FLOPs; default: 6 n d, which needs n in parameters and d in tokens
  form=NAME                    the form to report; default: additive, or n or d with one variable
                               (with n and d: {", ".join(form.name for form in forms_of(["n", "d"]))})
  huber=SCALE                  relative residual beyond which the loss of the fit is linear (Hoffmann et al.: 0.001);
                               default: 1.345 robust standard deviations of the residuals
  bootstrap={NUM_DRAWS}                refits for the intervals, at least {MIN_DRAWS}
  out=FOLDER                   write the report to this folder, which is replaced: Markdown, HTML, LaTeX, JSON, figure
  debug=true                   show the traceback of an error
"""
COLUMNS = ("n", "d", "loss", "seed", "flops")
WIDTH = 120  # of the output where it is no terminal


def main(arguments: Sequence[str]) -> int:
    """Fit a law; the exit status is 0 when it is printed and 2 when that is not possible."""
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    return guarded(_fit, arguments)


def script() -> int:
    """The console script."""
    return main(sys.argv[1:])


def _fit(arguments: Sequence[str]) -> int:
    if arguments[0] != "fit":
        raise unknown("command", arguments[0], ["fit"])
    if len(arguments) < 2 or "=" in arguments[1]:
        raise UsageError("which file? Type python analysis/scaling.py fit FILE n=COLUMN d=COLUMN loss=COLUMN")
    path, values = Path(arguments[1]), key_values(arguments[2:], [*COLUMNS, "form", "huber", "bootstrap", "out"])
    document = report(path, values)
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    shown = [
        replace(part, blocks=[one for one in part.blocks if not isinstance(one, Figure)]) for part in document.sections
    ]
    console.print(Markdown(to_markdown(replace(document, sections=shown))))
    if "out" in values:
        console.print(f"report: {write(document, Path(values['out']))}", soft_wrap=True, highlight=False, markup=False)
    return 0


def report(path: Path, values: Mapping[str, str]) -> Document:
    """Return the report on a file of runs.

    Raises:
        UsageError: the file, a column or a value cannot be used, or the runs are too few for the form.
    """
    variables: list[Variable] = [name for name in ("n", "d") if name in values]
    if not variables:
        raise UsageError("which variable? Type n=COLUMN (size), d=COLUMN (samples or tokens), or both")
    if "loss" not in values:
        raise UsageError("which loss? Type loss=COLUMN")
    forms = [form.name for form in forms_of(variables)]
    form = values.get("form", "additive" if len(variables) > 1 else variables[0])
    if form not in forms:
        raise unknown("form", form, forms)
    num_draws = checked("bootstrap", int, values.get("bootstrap", NUM_DRAWS))
    if num_draws < MIN_DRAWS:
        raise UsageError(f"bootstrap={num_draws} is too few refits for an interval; allowed: {MIN_DRAWS} and more")
    huber = checked("huber", PositiveFloat, values["huber"]) if "huber" in values else None
    runs = read_runs(path, {name: values[name] for name in COLUMNS if name in values})
    try:
        law = assess(runs, variables, form, num_draws=num_draws, huber=huber)
        cost = None if len(variables) < 2 else fit_cost(runs) if "flops" in runs else SIX_N_D
        optimum = frontier(law.bootstrap, cost) if cost and form.startswith("additive") else None
    except FitError as error:
        raise UsageError(f"no law can be fitted to {path}: {error}") from error
    labels = {name: values[name] for name in (*variables, "loss")}
    meanings = {"L" if name == "loss" else name: f'column "{column}"' for name, column in labels.items()}
    fitted = Fitted(law, labels, meanings, cost, optimum)
    with style():
        figure = law_figure(fitted)
    return Document(
        title=f"Scaling law of {escape(path.name)}",
        question=f"{len(runs)} runs, {_settings(runs, variables)} settings.",
        conclusion=conclusion(fitted),
        lead=figure,
        sections=[Section("Scaling law", law_blocks(fitted))],
        numbers=law_numbers(fitted),
    )


def _settings(runs: pd.DataFrame, variables: Sequence[Variable]) -> int:
    return len(runs[list(variables)].drop_duplicates())


def read_runs(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read the columns of a CSV file under our names.

    Args:
        columns: columns of the file by ``n``, ``d``, ``loss``, ``seed`` and ``flops``; all but the seed are positive
            numbers.

    Raises:
        UsageError: the file is no table, a column is missing, or a value is missing, no number or not positive.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from error
    for name, column in columns.items():
        if column not in table:
            raise UsageError(f"{path} has no column {column!r}, typed as {name}=. It has: {', '.join(table.columns)}.")
    runs = pd.DataFrame({name: table[column].str.strip() for name, column in columns.items()})
    for name in runs.columns.drop("seed", errors="ignore"):
        numbers = pd.to_numeric(runs[name], errors="coerce")
        wrong = ~(np.isfinite(numbers) & (numbers > 0))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UsageError(
                f"{path}, line {row + 2}: {columns[name]} is {runs[name].iloc[row]!r}, which is not a positive number"
            )
        runs[name] = numbers.astype(float)
    return runs


if __name__ == "__main__":
    sys.exit(script())
