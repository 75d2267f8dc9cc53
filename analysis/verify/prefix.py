"""Are the prefix lengths of training distributed as configured? Letters: I patches, B images of a step, N draws."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from aimv2.data.order import sample_order
from aimv2.data.pairs import mixture
from aimv2.objectives import objective
from analysis.verify.check import Check, judged, not_applicable
from analysis.verify.trained_run import TrainedRun

MAX_DRAWS = 20_000
MIN_P = 1e-3  # a correct distribution fails at one seed in a thousand
MIN_EXPECTED = 5.0  # draws in a bin; chi-square's approximation is poor below, so smaller bins are joined
NUM_BUILT = 3  # batches that are built whole, to compare their lengths with those tested here
NAME = "prefix lengths follow their distribution"


class PrefixLengths(NamedTuple):
    """The check; how often each prefix length 1..I was drawn [I], all 0 if training reads none; and the configured
    distribution [I]."""

    check: Check
    count_I: np.ndarray
    pmf_I: np.ndarray


def prefix_lengths(run: TrainedRun) -> PrefixLengths:
    """Test the prefix lengths of the training batches with chi-square.

    Passes if the batches as built carry the lengths that are tested, no length of probability 0 occurs, and
    p >= 0.001 (if only one length is possible: every draw has that length). With ``per='batch'`` the images of a step
    must agree, and a step is one draw. Not applicable if neither the encoder's mask nor a pixel loss reads the lengths.
    """
    config = run.config
    pmf_I = config.prefix.pmf(config.model.num_patches)
    attention = config.model.encoder.attention
    if attention != "prefix" and "pixels" not in objective(config.objective.name).reports:
        why = f"nothing reads prefix lengths with {attention} attention in the encoder and no pixel loss"
        return PrefixLengths(not_applicable(NAME, why), np.zeros(len(pmf_I), dtype=int), pmf_I)
    drawn = _drawn(run)
    length_N = np.concatenate([step_B[:1] if config.prefix.per == "batch" else step_B for step_B in drawn])
    count_I = np.bincount(length_N, minlength=len(pmf_I) + 1)[1 : len(pmf_I) + 1]
    return PrefixLengths(_check(run, drawn, len(length_N), count_I, pmf_I), count_I, pmf_I)


def _check(run: TrainedRun, drawn: list[np.ndarray], num_draws: int, count_I: np.ndarray, pmf_I: np.ndarray) -> Check:
    prefix = run.config.prefix
    is_per_batch = prefix.per == "batch"
    draws = f"{num_draws:,} {'steps' if is_per_batch else 'samples'}, prefix.law={prefix.law}"
    built = [run.batches[step].prefix_len_B.numpy() for step in range(min(NUM_BUILT, len(drawn)))]
    if not all(np.array_equal(one, other) for one, other in zip(built, drawn, strict=False)):
        return judged(NAME, False, f"batches carry other lengths than were drawn; {draws}", "equal lengths")
    if is_per_batch and any((step_B != step_B[0]).any() for step_B in drawn):
        return judged(NAME, False, f"images of one step differ; {draws}", "one length per step, for per='batch'")
    if num_impossible := num_draws - int(count_I[pmf_I > 0].sum()):
        return judged(NAME, False, f"{num_impossible:,} draws have a length of probability 0; {draws}", "none")
    if (pmf_I > 0).sum() == 1:
        found = f"all draws are {pmf_I.argmax() + 1} of {len(pmf_I)} patches; {draws}"
        return judged(NAME, True, found, "the only length of the distribution")
    statistic, df, p = chi_square(count_I, pmf_I)
    if df == 0:
        return not_applicable(NAME, f"too few draws for a test; {draws}")
    found = f"chi-square {statistic:.1f} on {df} degrees of freedom, p = {p:.3g}; {draws}"
    return judged(NAME, p >= MIN_P, found, f"p >= {MIN_P:g}")


def _drawn(run: TrainedRun) -> list[np.ndarray]:
    """Return the prefix lengths of the first steps, [B] each, drawn at the addresses that ``TrainBatches`` uses."""
    config, size = run.config, run.config.budget.batch_size
    sample_ids = run.train.table["sample_id"].to_numpy()
    mixed = mixture(config.data, run.train)
    drawn = []
    for step in range(min(config.budget.num_steps, -(-MAX_DRAWS // size))):
        epoch_B, row_B = sample_order(
            seed=config.seed, start=step * size, stop=(step + 1) * size, num_rows=len(sample_ids), mixture=mixed
        )
        drawn.append(
            config.prefix.draw(
                seed=config.seed,
                epoch_B=epoch_B,
                sample_id_B=sample_ids[row_B],
                step=step,
                num_patches=config.model.num_patches,
            )
        )
    return drawn


def chi_square(count_I: np.ndarray, pmf_I: np.ndarray) -> tuple[float, int, float]:
    """Return statistic, degrees of freedom and p, with neighbours joined until each bin expects 5 draws.

    With a single bin there are 0 degrees of freedom and p is 1.
    """
    expected_I = count_I.sum() * pmf_I
    starts, expected = [0], 0.0
    for place, more in enumerate(expected_I):
        if expected >= MIN_EXPECTED:
            starts.append(place)
            expected = 0.0
        expected += more
    if expected < MIN_EXPECTED and len(starts) > 1:
        starts.pop()
    if len(starts) == 1:
        return 0.0, 0, 1.0
    tested = stats.chisquare(np.add.reduceat(count_I, starts), np.add.reduceat(expected_I, starts))
    return float(tested.statistic), len(starts) - 1, float(tested.pvalue)
