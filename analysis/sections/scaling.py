"""The scaling law of a study of sizes and samples, or of a table of any source, as parts of a document."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aimv2.ablations.study import Study
from aimv2.analysis.document.model import Block, Bullets, Figure, Paragraph, Section, Table
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.figures import draw_scaling
from aimv2.analysis.inference.scaling_law import (
    NUM_DRAWS,
    FitError,
    ScalingLaw,
    assess,
    bounds,
    digits,
    draws_settings,
    frontier,
    shares_seeds,
)
from aimv2.analysis.judgement.withheld import mixed_code
from aimv2.analysis.sections.agreement import agreement_sections
from aimv2.analysis.sections.tables import metric_title
from aimv2.base.errors import escape

KIND = "ladder of sizes x ladder of samples"
SMALLEST_SHARE = 0.5  # of the baseline's samples: with shorter runs of ``laptop``, no such law fits
MISFIT = "The form does not fit the runs."


@dataclass(frozen=True, eq=False)
class Fitted:
    """What is shown of a law."""

    law: ScalingLaw
    labels: Mapping[str, str]  # what ``n``, ``d`` and ``loss`` are, with units, as plain text for axes and headings
    meanings: Mapping[str, str]  # the same by ``n``, ``d`` and ``L``, as plain text that continues "n is"

    @property
    def symbols(self) -> str:
        return "; ".join(f"{name} is {escape(self.meanings[name])}" for name in ("L", *self.law.law.variables))

    @property
    def optima(self) -> pd.DataFrame | None:
        """The compute-optimal frontier; None for a law of one variable."""
        return frontier(self.law.law, self.law.runs) if len(self.law.law.variables) > 1 else None


def law_of(study: Study, evidence: Evidence, *, num_draws: int = NUM_DRAWS) -> Fitted | str | None:
    """Return the scaling law of a study's primary metric, or why these runs give none; None if the study varies other
    things than size and samples."""
    if study.design.kind != KIND:
        return None
    if mixed := mixed_code(study, evidence):
        return mixed
    try:
        runs = scaling_runs(study, evidence)
        law = assess(runs[runs["d"] >= smallest_samples(study, evidence)], ["n", "d"], num_draws=num_draws)
    except FitError as error:
        return str(error)
    loss = f"{metric_title(study.primary_metric)} [{evidence.unit(study.primary_metric)}]"
    labels = {"n": "encoder parameters", "d": "samples", "loss": loss}
    return Fitted(law, labels, {"L": loss, "n": "the number of encoder parameters", "d": "the number of samples"})


def section(study: Study, evidence: Evidence, law: Fitted | str | None, withheld: Sequence[str] = ()) -> Section | None:
    """Return the law of ``law_of`` and what it predicts, in the context ``style``; ``withheld`` has why nothing is
    concluded in the primary metric."""
    if law is None:
        return None
    if isinstance(law, str):
        return Section("Scaling law", [Paragraph(f"No law is fitted: {law}.")])
    blocks: list[Block] = [Paragraph(_about(study, evidence)), *law_blocks(law)]
    if withheld:  # otherwise the law is the study's conclusion, and the figure stands beside it
        note = f"The law describes these runs and concludes nothing: {'; '.join(withheld)}."
        blocks = [Paragraph(note), law_figure(law), *blocks]
    by_metric = {
        metric: {
            f"{samples:,} samples": rows.pivot(index="seed", columns="n", values="loss")
            for samples, rows in scaling_runs(study, evidence, metric).groupby("d")
        }
        for metric in study.deciding_metrics
    }
    about = "The order of sizes at a number of samples and at the most."
    blocks += agreement_sections("Decision accuracy", about, by_metric, "decision_accuracy")
    return Section("Scaling law", blocks)


def scaling_runs(study: Study, evidence: Evidence, metric: str = "") -> pd.DataFrame:
    """Return a row per finished run of an arm with a metric, by default the primary one."""
    values = evidence.metrics[evidence.metrics["metric"] == (metric or study.primary_metric)]
    chosen = evidence.runs[evidence.runs["arm"].isin(list(study.arms))]
    columns = {"encoder_parameters": "n", "samples": "d", "value": "loss", "train_flops": "flops"}
    runs = chosen.merge(values[["arm", "seed", "value"]], on=["arm", "seed"]).rename(columns=columns)
    return runs.reindex(columns=["seed", *columns.values()])


def smallest_samples(study: Study, evidence: Evidence) -> float:
    """Return the samples from which on the law is fitted; 0 without runs of the baseline."""
    runs = evidence.runs.reindex(columns=["arm", "samples"])
    samples = runs.loc[runs["arm"] == study.baseline, "samples"]
    return SMALLEST_SHARE * float(samples.max()) if len(samples) else 0.0


def _about(study: Study, evidence: Evidence) -> str:
    """Return what n and d are, and what else changes with them."""
    runs = evidence.runs[evidence.runs["arm"].isin(list(study.arms))]
    low, high = runs["other_parameters"].min(), runs["other_parameters"].max()
    text = (
        "The loss is a function of n, the parameters of the encoder, and d, the samples seen in training. Other parts"
        f" of the model, such as the decoder, have {low:,}{f' to {high:,}' * bool(low != high)} parameters. The FLOPs"
        " include them, n does not. The law is fitted to runs of"
        f" {smallest_samples(study, evidence):,.0f} samples and more, {SMALLEST_SHARE:g} x those of the baseline."
    )
    epochs = float((runs["samples"] / runs["train_pairs"]).max())
    if epochs > 1:
        text += f" Samples repeat: the longest runs see each pair {epochs:.1f} times, and d counts every time."
    if failed := sum(evidence.num_failed(arm) for arm in study.arms):
        text += f" {failed} runs failed, so the others are a selection."
    return text


def law_blocks(fitted: Fitted) -> list[Block]:
    """Return the parameters of a law, its test on the largest runs, warnings, and the frontier."""
    warnings = fitted.law.warnings
    notes: list[Block] = [Paragraph("Warnings:"), Bullets(warnings)] if warnings else []
    return [_parameters(fitted), Paragraph(_test(fitted.law)), *notes, *_frontier(fitted)]


def conclusion(fitted: Fitted) -> str:
    """Return the law with its numbers, its error on the held-out runs, what speaks against it, and its symbols."""
    law = fitted.law
    values = ", ".join(f"{name} = {value:.4g}" for name, value in law.law.parameters.items())
    tested = f"Held-out error: {_error(law)}." if law.held_out.law else "Its form is not tested."
    doubtful = f" Not identified: {', '.join(law.unidentified)}." if law.unidentified else ""
    misfit = f" {MISFIT}" if law.misfit.is_shown else ""
    return f"L = {law.law.text} with {values}. {tested}{doubtful}{misfit} Here {fitted.symbols}."


def law_figure(fitted: Fitted) -> Figure:
    """Draw the law beside its runs, and its errors. Called in the context ``style``."""
    law = fitted.law
    caption = f"Fitted: {law.law.text}. {fitted.symbols}." + (f" {MISFIT}" if law.misfit.is_shown else "")
    if law.held_out.law:
        caption += f" Right: errors of a fit without the open points, the runs with {law.held_out.text}."
    return Figure("scaling_law", "Loss and the fitted law", caption, *draw_scaling(law, fitted.labels))


def _parameters(fitted: Fitted) -> Table:
    law = fitted.law
    noise = "seeds and runs" if shares_seeds(law.runs, law.law.variables) else "runs"
    resampled = "to drawn settings" if draws_settings(law.law, law.runs) else f"with drawn noise of {noise}"
    rows = [
        [name, f"{value:.4g}", bounds(*law.interval(name)), "no" if name in law.unidentified else "yes"]
        for name, value in law.law.parameters.items()
    ]
    caption = (
        f"{fitted.symbols}. Intervals are percentiles of {len(law.draws)} refits {resampled}. The Huber loss is linear"
        f" beyond relative residuals of {law.law.huber:.2g}."
    )
    columns = ["parameter", "estimate", f"{100 * law.level:.0f} % interval", "identified"]
    return Table(columns, rows, "scaling_parameters", caption)


def _test(law: ScalingLaw) -> str:
    """Return the error on the largest runs, and the noise that it is to be compared with."""
    if law.held_out.law is None:
        return f"The law is not tested on larger runs: {law.held_out.reason}."
    text = (
        f"Held-out error: {_error(law)}. It is the root mean square of log loss minus log prediction for the"
        f" {law.held_out.is_held_R.sum()} runs with {law.held_out.text}, of a fit to the others; its interval is that"
        " of the jackknife over seeds."
    )
    noise = law.misfit.noise_sd
    return text if math.isnan(noise) else f"{text} One run's noise in a setting is {100 * noise:.2f} %."


def _frontier(fitted: Fitted) -> list[Block]:
    if (optima := fitted.optima) is None:
        return []
    optimal = [f"optimal {escape(fitted.labels[name])}" for name in ("n", "d")]
    columns = ["training FLOPs", *optimal, "loss", "within runs"]
    rows = [
        [
            f"{row['flops']:.2e}",
            *(digits(row[name]) for name in ("n", "d", "loss")),
            "yes" if row["is_inside"] else "no, extrapolated",
        ]
        for row in optima.to_dict("records")
    ]
    slope = np.diff(np.log(optima["n"].tail(2)))[0] / np.diff(np.log(optima["flops"].tail(2)))[0]
    caption = (
        "The size and the data with the smallest predicted loss for given FLOPs, estimates without intervals. At the"
        f" largest budgets, the optimal n grows as FLOPs^{slope:.2f}."
    )
    return [Table(columns, rows, "scaling_frontier", caption)]


def _error(law: ScalingLaw) -> str:
    """Return the error on held-out runs in per cent; it is not negative, whatever its interval."""
    error = law.held_out.error
    if not error.has_interval:
        return f"{100 * error.mean:.2f} % (no interval)"
    return f"{100 * error.mean:.2f} % [{100 * max(error.low, 0):.2f} %, {100 * error.high:.2f} %]"


def law_numbers(fitted: Fitted) -> dict[str, Any]:
    """Return the law as JSON values."""
    law, optima = fitted.law, fitted.optima

    def value(mean: float, low: float, high: float, unit: str) -> dict[str, Any]:
        # An optimizer stops within 1e-7 of the minimum, elsewhere on another processor.
        ends = {key: float(f"{end:.5g}") for key, end in (("mean", mean), ("low", low), ("high", high))}
        return ends | {"level": law.level, "n": len(law.runs), "unit": unit}

    error = law.held_out.error
    return {
        "form": law.law.text,
        "labels": dict(fitted.labels),
        "parameters": {
            name: value(mean, *law.interval(name), "") | {"is_identified": name not in law.unidentified}
            for name, mean in law.law.parameters.items()
        },
        "refits": {"converged": len(law.draws), "failed": law.num_failed},
        "held_out": value(error.mean, error.low, error.high, "log loss") | {"runs": law.held_out.text},
        "lack_of_fit": {"noise": law.misfit.noise_sd, "misfit": law.misfit.misfit_sd, "p": law.misfit.p},
        "warnings": law.warnings,
        "frontier": [] if optima is None else optima.to_dict("records"),
    }
