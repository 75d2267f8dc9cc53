"""A scaling law with all that qualifies it: the test of its form, intervals, and what the data do not identify."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from aimv2.analysis.inference.scaling.bootstrap import NUM_DRAWS, Bootstrap, resample
from aimv2.analysis.inference.scaling.comparison import FormTrial, LackOfFit, Split, compare, lack_of_fit
from aimv2.analysis.inference.scaling.power_law import FitError, Law, Variable


@dataclass(frozen=True, eq=False)
class ScalingLaw:
    """The fit of a form that was named beforehand, beside the other forms.

    Attributes:
        trials: every form of the variables, the chosen one included.
        chosen: the trial of the named form.
    """

    runs: pd.DataFrame
    split: Split
    trials: Sequence[FormTrial]
    chosen: FormTrial
    bootstrap: Bootstrap
    misfit: LackOfFit

    @property
    def law(self) -> Law:
        return self.bootstrap.law

    @property
    def warnings(self) -> list[str]:
        """Sentences on what the data do not identify or speak against."""
        failed, total = self.bootstrap.num_failed, self.bootstrap.num_failed + len(self.bootstrap.draws)
        refits = [f"{failed} of {total} refits did not converge; the intervals leave them out."] if failed else []
        return [*self.bootstrap.unidentified.values(), *refits, *self._on_form(), *self._on_noise()]

    def _on_form(self) -> list[str]:
        found = [] if self.chosen.error.n else [f"The form is not tested on larger runs: {self.chosen.reason}."]
        others = [trial for trial in self.trials if trial is not self.chosen and trial.law is not None]
        for trial in others:
            difference = trial.minus(self.chosen) if trial.error.n and self.chosen.error.n else None
            if difference and difference.has_interval and difference.high < 0:
                found.append(f"{trial.form.text} predicts the held-out runs better than {self.law.form.text}.")
        return found

    def _on_noise(self) -> list[str]:
        found = []
        if math.isnan(self.misfit.p):
            found.append("Lack of fit is not testable without settings that were run with several seeds.")
        elif self.misfit.is_shown:
            misfit, noise = (f"{100 * sd:.1f} %" for sd in (self.misfit.misfit_sd, self.misfit.noise_sd))
            found.append(
                f"The form does not fit: settings deviate from it by {misfit} beyond the noise of {noise} (F test,"
                f" p = {self.misfit.p:.2g}), so intervals are too narrow."
            )
        return found


def assess(
    runs: pd.DataFrame,
    variables: Sequence[Variable],
    form: str,
    *,
    num_draws: int = NUM_DRAWS,
    huber: float | None = None,
) -> ScalingLaw:
    """Fit and test all forms of the variables, and give the named one intervals.

    Args:
        runs: a row per run with the variables (``n`` size, ``d`` samples or tokens), ``loss``, and ``seed`` if known.
        form: a name in ``FORMS``.
        huber: the Huber scale, in log units; by default that of each form's residuals.

    Raises:
        FitError: the runs cannot determine the form, or there is no fit.
    """
    if runs.empty:
        raise FitError("there are no runs")
    split, trials = compare(runs, variables, huber)
    chosen = next(trial for trial in trials if trial.form.name == form)
    if chosen.law is None:
        raise FitError(chosen.reason)
    bootstrap = resample(chosen.law, runs, num_draws=num_draws)
    return ScalingLaw(runs, split, trials, chosen, bootstrap, lack_of_fit(chosen.law, runs))
