"""Whether runs can determine a form: enough settings, variables that vary independently, a loss that falls with each.

A setting is a distinct point of the variables. Seeds of one setting measure noise and determine no further parameter.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from aimv2.analysis.inference.scaling.power_law import FitError, Form, Variable

MIN_FREEDOM = 4  # settings beyond the parameters; with fewer, the fit follows the noise and intervals are chance
MAX_CORRELATION = 0.99  # of log n and log d, absolute; above, less than a seventh of either's spread is its own
MIN_NOISE = 1e-9  # relative; below, losses are equal but for rounding
ALPHA = 0.01  # one-sided, of the test whether the loss rises


def variables_of(runs: pd.DataFrame) -> list[Variable]:
    """Return the variables that the runs have."""
    names: Sequence[Variable] = ("n", "d")
    return [name for name in names if name in runs]


def check_design(form: Form, runs: pd.DataFrame) -> None:
    """Check that runs can determine a form, before it is fitted.

    Args:
        runs: a row per run with its variables and ``loss``, all positive.

    Raises:
        FitError: there are too few settings, a variable has too few values, n and d vary together, or the loss rises
            with a variable. The message says what is wrong and what to run.
    """
    if not form.variables:
        return
    _check_levels(form, runs)
    _check_independence(form, runs)
    _check_freedom(form, runs)
    _check_sign(form, runs)


def _check_levels(form: Form, runs: pd.DataFrame) -> None:
    for variable in form.variables:
        # two values of a term of one variable leave its coefficient, its exponent and the offset undetermined
        needed = 3 if form.has_offset and (variable,) in form.terms else 2
        if (found := runs[variable].nunique()) < needed:
            raise FitError(f"{form.text} needs {needed} values of {variable} and the runs have {found}; run others")


def _check_independence(form: Form, runs: pd.DataFrame) -> None:
    if len(form.variables) < 2:
        return
    settings = np.log(runs[list(form.variables)].drop_duplicates().to_numpy(dtype=float))
    if abs(correlation := float(np.corrcoef(settings.T)[0, 1])) > MAX_CORRELATION:
        raise FitError(
            f"n and d vary together (the correlation of their logarithms is {correlation:.3f}), so their effects cannot"
            " be told apart; run several values of d at each n"
        )


def _check_freedom(form: Form, runs: pd.DataFrame) -> None:
    found, num_parameters = len(runs[variables_of(runs)].drop_duplicates()), len(form.parameters)
    needed = num_parameters + MIN_FREEDOM
    if found < needed:
        raise FitError(
            f"{form.text} has {num_parameters} parameters and needs at least {needed} settings, and the runs have"
            f" {found}; run {needed - found} more, since further seeds of the same settings are not enough"
        )


def _check_sign(form: Form, runs: pd.DataFrame) -> None:
    """Refuse a loss that rises: the partial slope of log loss is positive by Student's t test over settings' means."""
    names = variables_of(runs)
    means = runs[[*names, "loss"]].transform(np.log).groupby(names, as_index=False)["loss"].mean()
    varying = [name for name in names if means[name].nunique() > 1]
    design = np.column_stack([np.ones(len(means)), means[varying]])
    if np.linalg.matrix_rank(design) < design.shape[1]:  # then the form has one variable, and the other moves with it
        varying = list(form.variables)
        design = np.column_stack([np.ones(len(means)), means[varying]])
    slope, _, _, _ = np.linalg.lstsq(design, means["loss"], rcond=None)
    df = len(means) - design.shape[1]
    noise = max(float(np.sum((means["loss"] - design @ slope) ** 2)) / df, MIN_NOISE**2)
    error = np.sqrt(noise * np.diag(np.linalg.inv(design.T @ design)))
    for name, value, one in zip(varying, slope[1:], error[1:], strict=True):
        if name in form.variables and value > stats.t.ppf(1 - ALPHA, df) * one:
            percent = 100 * (math.exp(value * math.log(2)) - 1)
            raise FitError(
                f"the loss rises with {name}, by {percent:.2g} % per doubling, and {form.text} only falls; tune the"
                f" runs with the largest {name}, or fit a form without {name}"
            )
