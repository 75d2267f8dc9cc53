"""Balance of the two losses: their gradients on the decoder that they share."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from aimv2.analysis.verify.check import Check
from aimv2.analysis.verify.trained_run import TrainedRun
from aimv2.memory.setup import setup_of
from aimv2.model.network import EncoderDecoder
from aimv2.objectives.build import implementation_of
from aimv2.training.engine import Engine

PIXEL, TEXT, COSINE = "pixel_loss_gradient", "text_loss_gradient", "gradient_cosine"
COLUMNS = [PIXEL, TEXT, COSINE]
MIN_RATIO = 0.01  # of the smaller weighted gradient to the larger; below, one loss hardly trains the decoder
NUM_BATCHES = 8  # last training batches, on which gradients are taken again
TRAINING = "both losses train the shared decoder throughout"
END = "neither loss drowns out the other at the end"


class Balance(NamedTuple):
    """The checks; the gradients that training recorded, a row per point with ``samples`` and COLUMNS; and those at the
    trained weights, a row per batch. A table is empty if its check does not apply."""

    checks: list[Check]
    recorded: pd.DataFrame
    at_end: pd.DataFrame


def balance(run: TrainedRun) -> Balance:
    """Compare the norms of both losses' gradients on the decoder's blocks, and the cosine between them.

    At the end, on the trained weights and the last training batches, neither weighted norm (alpha times the pixel
    loss's, and the text loss's) may be less than 1 % of the other.
    """
    if why := _why_not(run):
        none = pd.DataFrame(columns=["samples", *COLUMNS], dtype=float)
        return Balance([Check(name, None, why) for name in (TRAINING, END)], none, none)
    found = Balance([], _recorded(run.metrics), _gradients(run))
    return found._replace(checks=[_check_training(found), _check_end(found, run.config.objective.pixel_weight)])


def _why_not(run: TrainedRun) -> str:
    config = run.config
    if set(run.objective.reports) != {"captions", "pixels"}:
        return f"objective {config.objective.name} does not have both losses"
    assert isinstance(run.model, EncoderDecoder)
    if not implementation_of(run.objective)(run.model, config).shared_parameters():
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


def _gradients(run: TrainedRun) -> pd.DataFrame:
    config, model, batches = run.config, run.model, run.batches
    engine = Engine(implementation_of(run.objective)(model, config), config, setup_of(config))
    rows = []
    for step in range(max(0, len(batches) - NUM_BATCHES), len(batches)):
        measured = engine.gradient_balance(engine.micro_batches(batches[step]))
        if measured:  # a batch without a patch to predict has one loss
            rows.append({name: float(value) for name, value in measured.items()})
    return pd.DataFrame(rows, columns=COLUMNS, dtype=float)


def _num_broken(table: pd.DataFrame) -> int:
    """Count the rows with a norm of 0 or a value that is not finite."""
    is_finite_R = np.isfinite(table[COLUMNS].to_numpy(dtype=float)).all(axis=1)
    return len(table) - int((is_finite_R & (table[[PIXEL, TEXT]] > 0).all(axis=1)).sum())


def _check_training(balance: Balance) -> Check:
    recorded = balance.recorded
    if recorded.empty:
        return Check(TRAINING, None, "the run recorded no gradient norms of its losses")
    ranges = ", ".join(
        f"{label} {recorded[name].min():.3g} to {recorded[name].max():.3g}"
        for name, label in ((PIXEL, "norm of pixel gradient"), (TEXT, "of text gradient"), (COSINE, "cosine"))
    )
    num_broken = _num_broken(recorded)
    broken = f"; {num_broken} with a norm of 0 or a value that is not finite" if num_broken else ""
    found = f"{len(recorded)} points, {ranges}{broken}"
    return Check(TRAINING, not num_broken, found, "norms finite and above 0 at every point")


def _check_end(balance: Balance, alpha: float) -> Check:
    at_end, ratio_R = balance.at_end, alpha * balance.at_end[PIXEL] / balance.at_end[TEXT]
    if at_end.empty:
        return Check(END, None, "the last training batches have no patch to predict")
    passes = not _num_broken(at_end) and bool(MIN_RATIO <= ratio_R.mean() <= 1 / MIN_RATIO)
    found = (
        f"alpha x pixel / text gradient = {ratio_R.mean():.3f} at alpha {alpha:g} ({len(ratio_R)} batches,"
        f" {ratio_R.min():.3f} to {ratio_R.max():.3f}), cosine {at_end[COSINE].mean():+.3f}"
    )
    return Check(END, passes, found, f"norms finite and above 0, ratio {MIN_RATIO:g} to {1 / MIN_RATIO:g}")
