"""How strongly does each of the two losses pull at the decoder that they share?"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.objectives import objective
from aimv2.training.loop import gradient_balance
from analysis.verify.check import Check, judged, not_applicable
from analysis.verify.trained_run import TrainedRun

PIXEL, TEXT, COSINE = "pixel_loss_gradient", "text_loss_gradient", "gradient_cosine"
COLUMNS = [PIXEL, TEXT, COSINE]
MIN_RATIO = 0.01  # of the smaller weighted gradient to the larger; below, one loss hardly trains the decoder
NUM_BATCHES = 8  # last training batches, on which gradients are taken again
PAPER_ALPHAS = (0.2, 0.4, 0.6)  # Table 9c
ALPHAS = (0.05, 0.1, *PAPER_ALPHAS, 1.0, 2.0)
TRAINING = "both losses train the shared decoder throughout"
END = "neither loss drowns out the other at the end"


class Balance(NamedTuple):
    """The checks; the gradients that training recorded, a row per point with ``samples`` and COLUMNS; and those at the
    trained weights, a row per batch. A table is empty if its check does not apply."""

    checks: list[Check]
    recorded: pd.DataFrame
    at_end: pd.DataFrame

    @property
    def end_ratio(self) -> float:
        """|g_pixel| / |g_text| at the trained weights, mean over the batches."""
        return float((self.at_end[PIXEL] / self.at_end[TEXT]).mean())


def balance(run: TrainedRun) -> Balance:
    """Compare the norms of both losses' gradients on the decoder's blocks, and the cosine between them.

    Over training, passes if all norms are finite and above 0 at every recorded point. At the end, on the trained
    weights and the last training batches, passes if both norms are finite and above 0, and neither weighted norm (alpha
    times the pixel loss's, and the text loss's) is less than 1 % of the other.
    """
    if why := _why_not(run):
        none = pd.DataFrame(columns=["samples", *COLUMNS], dtype=float)
        return Balance([not_applicable(name, why) for name in (TRAINING, END)], none, none)
    recorded, at_end = _recorded(run.metrics), _gradients(run)
    return Balance([_check_training(recorded), _check_end(at_end, run)], recorded, at_end)


def _why_not(run: TrainedRun) -> str:
    config = run.config
    goal = objective(config.objective.name)
    if set(goal.reports) != {"captions", "pixels"}:
        return f"objective {config.objective.name} does not have both losses"
    assert isinstance(run.model, EncoderDecoder)
    if not goal.load().shared_parameters(run.model):
        return "separate decoders share no parameters"
    return "" if config.objective.pixel_weight else "the pixel loss has weight 0"


def _recorded(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the points at which training recorded gradients or should have: the first step and those of the held-out
    curve, except for batches without a patch to predict, which have no pixel loss."""
    table = metrics.reindex(columns=list(dict.fromkeys([*metrics.columns, "pixel_loss", *COLUMNS])))
    has_gradients = table[COLUMNS].notna().any(axis=1)
    if not has_gradients.any():
        return table.iloc[:0][["samples", *COLUMNS]]
    on_curve = table.filter(regex="^held_out_").notna().any(axis=1)
    is_due = ((table["step"] == 1) | on_curve) & table["pixel_loss"].notna()
    return table.loc[is_due | has_gradients, ["samples", *COLUMNS]]


def _gradients(run: TrainedRun) -> pd.DataFrame:
    config, model, batches = run.config, run.model, run.batches
    goal = objective(config.objective.name).load()
    rows = []
    for step in range(max(0, len(batches) - NUM_BATCHES), len(batches)):
        batch = batches[step].to(torch.device(config.device))
        measured = gradient_balance(goal.losses(model, batch, config).terms, goal.shared_parameters(model))
        if measured:  # a batch without a patch to predict has one loss
            rows.append({name: float(value) for name, value in measured.items()})
    return pd.DataFrame(rows, columns=COLUMNS, dtype=float)


def _is_sound(table: pd.DataFrame) -> np.ndarray:
    """True for the rows whose norms are finite and above 0 and whose cosine is finite."""
    values_RC, norms_RC = table[COLUMNS].to_numpy(dtype=float), table[[PIXEL, TEXT]].to_numpy(dtype=float)
    is_sound: np.ndarray = np.isfinite(values_RC).all(axis=1) & (norms_RC > 0).all(axis=1)
    return is_sound


def _check_training(recorded: pd.DataFrame) -> Check:
    if recorded.empty:
        return not_applicable(TRAINING, "the run recorded no gradient norms of its losses")
    ranges = ", ".join(
        f"{label} {recorded[name].min():.3g} to {recorded[name].max():.3g}"
        for name, label in ((PIXEL, "norm of pixel gradient"), (TEXT, "of text gradient"), (COSINE, "cosine"))
    )
    is_sound = _is_sound(recorded)
    broken = "" if is_sound.all() else f"; {(~is_sound).sum()} with a norm of 0 or a value that is not finite"
    found = f"{len(recorded)} points, {ranges}{broken}"
    return judged(TRAINING, bool(is_sound.all()), found, "norms finite and above 0 at every point")


def _check_end(at_end: pd.DataFrame, run: TrainedRun) -> Check:
    if at_end.empty:
        return not_applicable(END, "the last training batches have no patch to predict")
    alpha = run.config.objective.pixel_weight
    ratio = alpha * at_end[PIXEL] / at_end[TEXT]
    mean = float(ratio.mean())
    passes = bool(_is_sound(at_end).all()) and MIN_RATIO <= mean <= 1 / MIN_RATIO
    found = (
        f"alpha x pixel / text gradient = {mean:.3f} at alpha {alpha:g} ({len(ratio)} batches, {ratio.min():.3f} to"
        f" {ratio.max():.3f}), cosine {at_end[COSINE].mean():+.3f}"
    )
    return judged(END, passes, found, f"norms finite and above 0, ratio {MIN_RATIO:g} to {1 / MIN_RATIO:g}")


def share(ratio: float, alpha: float) -> float:
    """Return alpha x |g_pixel| over the sum of both weighted norms, from |g_pixel| / |g_text|."""
    return alpha * ratio / (1 + alpha * ratio)
