"""Balance of the two losses: their gradients on the decoder that they share."""

import numpy as np
import pandas as pd

from aimv2.model.encoder_decoder import EncoderDecoder
from analysis.verify.check import Check
from analysis.verify.trained_run import TrainedRun

PIXEL, TEXT, COSINE = "pixel_loss_gradient", "text_loss_gradient", "gradient_cosine"
COLUMNS = [PIXEL, TEXT, COSINE]
MIN_RATIO = 0.01  # of the smaller weighted gradient to the larger; below, one loss hardly trains the decoder
TRAINING = "both losses train the shared decoder throughout"
END = "neither loss drowns out the other at the end"


def balance(run: TrainedRun) -> list[Check]:
    """Compare the norms of both losses' gradients on the decoder's blocks, as training recorded them.

    They must be finite and above 0 at every point. At the last one, neither weighted norm (alpha times the pixel
    loss's, and the text loss's) may be less than 1 % of the other.
    """
    if why := _why_not(run):
        return [Check(name, None, why) for name in (TRAINING, END)]
    recorded = _recorded(run.metrics)
    if recorded.empty:
        return [Check(name, None, "the run recorded no gradient norms of its losses") for name in (TRAINING, END)]
    return [_check_training(recorded), _check_end(recorded.iloc[-1], run.config.objective.pixel_weight)]


def _why_not(run: TrainedRun) -> str:
    config = run.config
    if set(run.objective.reports) != {"captions", "pixels"}:
        return f"objective {config.objective.name} does not have both losses"
    assert isinstance(run.model, EncoderDecoder)
    if not run.objective.load()(run.model, config).shared_parameters():
        return "separate decoders share no parameters"
    return "" if config.objective.pixel_weight else "the pixel loss has weight 0"


def _recorded(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the points at which training recorded gradients or should have: the first step and those of the held-out
    curve, except for batches without a patch to predict, which have no pixel loss."""
    table = metrics.reindex(columns=metrics.columns.union(["pixel_loss", *COLUMNS], sort=False))
    has_gradients = table[COLUMNS].notna().any(axis=1)
    on_curve = table.filter(regex="^held_out_").notna().any(axis=1)
    is_due = ((table["step"] == 1) | on_curve) & table["pixel_loss"].notna() & bool(has_gradients.any())
    return table.loc[is_due | has_gradients, :][["samples", *COLUMNS]]


def _check_training(recorded: pd.DataFrame) -> Check:
    ranges = ", ".join(
        f"{label} {recorded[name].min():.3g} to {recorded[name].max():.3g}"
        for name, label in ((PIXEL, "norm of pixel gradient"), (TEXT, "of text gradient"), (COSINE, "cosine"))
    )
    is_finite_R = np.isfinite(recorded[COLUMNS].to_numpy(dtype=float)).all(axis=1)
    num_broken = len(recorded) - int((is_finite_R & (recorded[[PIXEL, TEXT]] > 0).all(axis=1)).sum())
    broken = f"; {num_broken} with a norm of 0 or a value that is not finite" if num_broken else ""
    found = f"{len(recorded)} points, {ranges}{broken}"
    return Check(TRAINING, not num_broken, found, "norms finite and above 0 at every point")


def _check_end(last: "pd.Series[float]", alpha: float) -> Check:
    ratio = alpha * float(last[PIXEL]) / float(last[TEXT]) if last[TEXT] else np.inf
    found = f"alpha x pixel / text gradient = {ratio:.3f} at alpha {alpha:g}, cosine {last[COSINE]:+.3f}"
    return Check(END, MIN_RATIO <= ratio <= 1 / MIN_RATIO, found, f"ratio {MIN_RATIO:g} to {1 / MIN_RATIO:g}")
