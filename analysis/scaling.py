"""python analysis/scaling.py fit FILE n=… d=… loss=…: a scaling law from a table of runs of any source."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd
from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from aimv2.analysis.document.model import Document, Section
from aimv2.analysis.document.show import show
from aimv2.analysis.document.style import style
from aimv2.analysis.document.write import check_replaceable
from aimv2.analysis.inference.scaling.assess import assess
from aimv2.analysis.inference.scaling.bootstrap import NUM_DRAWS
from aimv2.analysis.inference.scaling.frontier import SIX_N_D, fit_cost, frontier
from aimv2.analysis.inference.scaling.power_law import FitError, Variable, forms_of
from aimv2.analysis.sections.scaling.law import Fitted, conclusion, law_blocks, law_figure, law_numbers
from aimv2.analysis.tables import numbers, read_columns
from aimv2.base.errors import UsageError, unknown
from aimv2.base.markdown import escape
from aimv2.config.arguments import HELP, guarded, script_of
from aimv2.config.data_config import CHECKED
from aimv2.config.options import read_options, usage

MIN_DRAWS = 100  # below, the ends of a 95 % percentile interval are nearly the range of the refits
COLUMNS = ("n", "d", "loss", "seed", "flops")
COLUMN = ["COLUMN"]
FORMS = ", ".join(form.name for form in forms_of(["n", "d"]))


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class FitOptions:
    """What to fit, and where to write it."""

    n: str | None = Field(None, examples=COLUMN, description="size of the model, such as its parameters")
    d: str | None = Field(
        None, examples=COLUMN, description="data seen in training: samples or tokens; n or d may be left out"
    )
    loss: str | None = Field(None, examples=COLUMN, description="what falls with both; positive")
    seed: str | None = Field(
        None,
        examples=COLUMN,
        description="runs with the same seed in several settings are a block; default: runs are independent",
    )
    flops: str | None = Field(
        None,
        examples=COLUMN,
        description="training FLOPs; default: 6 n d, which needs n in parameters and d in tokens",
    )
    form: str | None = Field(
        None,
        examples=["NAME"],
        description=f"the form to report; default: additive, or n or d with one variable (with n and d: {FORMS})",
    )
    huber: PositiveFloat | None = Field(
        None,
        examples=["SCALE"],
        description="relative residual beyond which the loss of the fit is linear (Hoffmann et al.: 0.001); default:"
        " 1.345 robust standard deviations of the residuals",
    )
    bootstrap: int = Field(NUM_DRAWS, description=f"refits for the intervals, at least {MIN_DRAWS}")
    out: str | None = Field(
        None,
        examples=["FOLDER"],
        description="write the report to this folder, which is replaced: Markdown, HTML, JSON, figure",
    )
    export: bool = Field(False, description="true to write tables as LaTeX, figures as PDF and their data as CSV too")

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the file by our names."""
        return {name: column for name in COLUMNS if (column := getattr(self, name))}


USAGE = usage(
    "python analysis/scaling.py fit FILE [n=COLUMN] [d=COLUMN] loss=COLUMN [key=value ...]",
    "Fit a scaling law to the runs in a CSV or Parquet file, one a row: L = E + A n^-a + B d^-b, or a power law of one"
    " variable. Print the test of several forms on the largest runs, the fit with intervals, what is not identified,"
    " and the compute-optimal frontier.",
    FitOptions,
)


def main(arguments: Sequence[str]) -> int:
    """Fit a law; the exit status is 0 when it is printed and 2 when that is not possible."""
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    return guarded(_fit, arguments)


def script() -> int:
    """The console script."""
    return script_of(main)


def _fit(arguments: Sequence[str]) -> int:
    if arguments[0] != "fit":
        raise unknown("command", arguments[0], ["fit"])
    if len(arguments) < 2 or "=" in arguments[1]:
        raise UsageError("which file? Type python analysis/scaling.py fit FILE n=COLUMN d=COLUMN loss=COLUMN")
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
