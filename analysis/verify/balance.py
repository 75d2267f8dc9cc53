"""Experiment 2: how the two losses pull at the decoder that they share."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from aimv2.model.encoder_decoder import EncoderDecoder
from aimv2.objectives import objective
from aimv2.training.loop import gradient_balance
from analysis.verify.line import Line, judged, not_applicable
from analysis.verify.subject import Subject

PIXEL, TEXT, COSINE = "pixel_loss_gradient", "text_loss_gradient", "gradient_cosine"
COLUMNS = [PIXEL, TEXT, COSINE]
LEAST_RATIO = 0.01  # of the smaller weighted gradient to the larger; below it one loss hardly trains the decoder
NUM_BATCHES = 8  # last training batches, on which gradients are taken again
PAPER_ALPHAS = (0.2, 0.4, 0.6)  # Table 9c
ALPHAS = (0.05, 0.1, *PAPER_ALPHAS, 1.0, 2.0)
TRAINING_TITLE = "both losses train the shared decoder throughout"
END_TITLE = "neither loss drowns the other at the end"


class Balance(NamedTuple):
    """The lines; what training recorded, a row per point with ``samples`` and COLUMNS; and the same at the trained
    weights, a row per batch. Tables are empty where the lines say why."""

    lines: list[Line]
    recorded: pd.DataFrame
    at_end: pd.DataFrame

    @property
    def end_ratio(self) -> float:
        """|g_pixel| / |g_text| at the trained weights, mean over the batches."""
        return float((self.at_end[PIXEL] / self.at_end[TEXT]).mean())


def balance(subject: Subject) -> Balance:
    """Norms of both losses' gradients on the decoder's blocks, and the cosine between them.

    Over training passes if all norms are finite and above 0 at every recorded point. At the end, on the trained
    weights and the last training batches, passes if both norms are finite and above 0, and neither weighted norm (alpha
    times the pixel loss's, and the text loss's) is less than 1 % of the other.
    """
    why = _why_not(subject)
    none = pd.DataFrame(columns=["samples", *COLUMNS], dtype=float)
    if why:
        lines = [not_applicable("2", title, why) for title in (TRAINING_TITLE, END_TITLE)]
        return Balance(lines, none, none)
    recorded = _recorded(subject.metrics)
    at_end = _gradients(subject)
    return Balance([_training_line(recorded), _end_line(at_end, subject)], recorded, at_end)


def _why_not(subject: Subject) -> str:
    config = subject.config
    if set(objective(config.objective.name).reports) != {"captions", "pixels"}:
        return f"objective {config.objective.name} does not have both losses"
    assert isinstance(subject.model, EncoderDecoder)
    if not objective(config.objective.name).load().shared_parameters(subject.model):
        return "with separate decoders the losses share no decoder"
    return "" if config.objective.pixel_weight else "the pixel loss has weight 0"


def _recorded(metrics: pd.DataFrame) -> pd.DataFrame:
    """The points at which training recorded gradients, or should have: the first step and those of the held-out curve,
    but for batches that had no patch to predict and so no pixel loss."""
    table = metrics.reindex(columns=list(dict.fromkeys([*metrics.columns, "pixel_loss", *COLUMNS])))
    if table[COLUMNS].isna().all(axis=None):
        return table.iloc[:0][["samples", *COLUMNS]]
    on_curve = table[[name for name in table.columns if name.startswith("held_out_")]].notna().any(axis=1)
    is_due = ((table["step"] == 1) | on_curve) & table["pixel_loss"].notna()
    return table.loc[is_due | table[COLUMNS].notna().any(axis=1), ["samples", *COLUMNS]]


def _gradients(subject: Subject) -> pd.DataFrame:
    config, model = subject.config, subject.model
    goal = objective(config.objective.name).load()
    rows = []
    for step in range(max(0, len(subject.batches) - NUM_BATCHES), len(subject.batches)):
        batch = subject.batches[step].to(torch.device(config.device))
        measured = gradient_balance(goal.losses(model, batch, config).terms, goal.shared_parameters(model))
        if measured:  # a batch without a patch to predict has one loss
            rows.append({name: float(value) for name, value in measured.items()})
    return pd.DataFrame(rows, columns=COLUMNS, dtype=float)


def _is_sound(table: pd.DataFrame) -> bool:
    norms = table[[PIXEL, TEXT]].to_numpy(dtype=float)
    return bool(np.isfinite(table[COLUMNS].to_numpy(dtype=float)).all() and (norms > 0).all())


def _training_line(recorded: pd.DataFrame) -> Line:
    if recorded.empty:
        return not_applicable("2", TRAINING_TITLE, "the run recorded no gradient norms of its losses")
    spans = ", ".join(
        f"{what} {recorded[name].min():.3g} to {recorded[name].max():.3g}"
        for name, what in ((PIXEL, "norm of pixel gradient"), (TEXT, "of text gradient"), (COSINE, "cosine"))
    )
    broken = int((~np.isfinite(recorded[COLUMNS]) | (recorded[COLUMNS] == 0)).any(axis=1).sum())
    found = f"{len(recorded)} points, {spans}" + (f"; {broken} with a value that is 0 or not finite" if broken else "")
    return judged("2", TRAINING_TITLE, _is_sound(recorded), found, "norms finite and above 0 at every point")


def _end_line(at_end: pd.DataFrame, subject: Subject) -> Line:
    if at_end.empty:
        return not_applicable("2", END_TITLE, "the last training batches have no patch to predict")
    alpha = subject.config.objective.pixel_weight
    ratio = alpha * at_end[PIXEL] / at_end[TEXT]
    mean = float(ratio.mean())
    passes = _is_sound(at_end) and LEAST_RATIO <= mean <= 1 / LEAST_RATIO
    found = (
        f"alpha x pixel / text gradient = {mean:.3f} at alpha {alpha:g} ({len(ratio)} batches, {ratio.min():.3f} to"
        f" {ratio.max():.3f}), cosine {at_end[COSINE].mean():+.3f}"
    )
    criterion = f"norms finite and above 0, ratio {LEAST_RATIO:g} to {1 / LEAST_RATIO:g}"
    return judged("2", END_TITLE, passes, found, criterion)


def share(ratio: float, alpha: float) -> float:
    """alpha x |g_pixel| over the sum of both weighted norms, from |g_pixel| / |g_text|."""
    return alpha * ratio / (1 + alpha * ratio)
