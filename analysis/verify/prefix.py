"""Are the prefix lengths of training distributed as configured? Letters: I patches, S steps, B images, N draws."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from aimv2.analysis.verify.check import Check
from aimv2.analysis.verify.trained_run import TrainedRun
from aimv2.config.run_config import RunConfig
from aimv2.data.prepare import order_of

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
    """Test the prefix lengths of the training batches with chi-square; with ``per='batch'`` a step is one draw.

    The batches as built must carry the lengths that are tested. Not applicable if neither the encoder's mask nor a
    pixel loss reads the lengths.
    """
    config = run.config
    pmf_I = _configured(config)
    attention = config.model.encoder.attention
    if attention != "prefix" and "pixels" not in run.objective.reports:
        why = f"nothing reads prefix lengths with {attention} attention in the encoder and no pixel loss"
        return PrefixLengths(Check(NAME, None, why), np.zeros(len(pmf_I), dtype=int), pmf_I)
    drawn_SB = _drawn(run)
    length_N = drawn_SB[:, 0] if config.prefix.per == "batch" else drawn_SB.flatten()
    count_I = np.bincount(length_N, minlength=len(pmf_I) + 1)[1 : len(pmf_I) + 1]
    return PrefixLengths(_check(run, drawn_SB, len(length_N), count_I, pmf_I), count_I, pmf_I)


def _configured(config: RunConfig) -> np.ndarray:
    """Return the distribution of the prefix lengths of the tested steps [I]; that of a curriculum changes over them."""
    prefix, num_patches, num_steps = config.prefix, config.model.num_patches, config.budget.num_steps
    if not prefix.is_curriculum:
        return prefix.pmf(num_patches)
    each = [prefix.pmf(num_patches, step / num_steps) for step in range(_num_tested(config))]
    average: np.ndarray = np.mean(each, axis=0)
    return average


def _num_tested(config: RunConfig) -> int:
    """Return the number of steps whose prefix lengths are tested, the first ones."""
    return min(config.budget.num_steps, -(-MAX_DRAWS // config.budget.batch_size))


def _check(run: TrainedRun, drawn_SB: np.ndarray, num_draws: int, count_I: np.ndarray, pmf_I: np.ndarray) -> Check:
    prefix = run.config.prefix
    is_per_batch = prefix.per == "batch"
    draws = f"{num_draws:,} {'steps' if is_per_batch else 'samples'}, prefix.law={prefix.law}"
    built_SB = [run.batches[step].prefix_len_B.numpy() for step in range(min(NUM_BUILT, len(drawn_SB)))]
    if not np.array_equal(built_SB, drawn_SB[:NUM_BUILT]):
        return Check(NAME, False, f"batches carry other lengths than were drawn; {draws}", "equal lengths")
    if is_per_batch and (drawn_SB != drawn_SB[:, :1]).any():
        return Check(NAME, False, f"images of one step differ; {draws}", "one length per step, for per='batch'")
    if num_impossible := num_draws - int(count_I[pmf_I > 0].sum()):
        return Check(NAME, False, f"{num_impossible:,} draws have a length of probability 0; {draws}", "none")
    if (pmf_I > 0).sum() == 1:
        found = f"all draws are {pmf_I.argmax() + 1} of {len(pmf_I)} patches; {draws}"
        return Check(NAME, True, found, "the only length of the distribution")
    statistic, df, p = chi_square(count_I, pmf_I)
    if df == 0:
        return Check(NAME, None, f"too few draws for a test; {draws}")
    found = f"chi-square {statistic:.1f} on {df} degrees of freedom, p = {p:.3g}; {draws}"
    return Check(NAME, p >= MIN_P, found, f"p >= {MIN_P:g}")


def _drawn(run: TrainedRun) -> np.ndarray:
    """Return the prefix lengths of the first steps [S, B], drawn at the addresses that ``TrainBatches`` uses."""
    config, size, num_steps = run.config, run.config.budget.batch_size, _num_tested(run.config)
    order = order_of(config.data, run.train)
    place_SB = [order.places(step * size, size, np.arange(size)) for step in range(num_steps)]
    epoch_N, row_N = order.at(np.concatenate(place_SB), seed=config.seed)
    addresses = zip(epoch_N.reshape(-1, size), run.train.sample_ids(row_N).reshape(-1, size), strict=True)
    lengths = [
        config.prefix.draw(
            seed=config.seed,
            epoch_B=epoch_B,
            sample_id_B=id_B,
            step=step,
            num_steps=config.budget.num_steps,
            num_patches=config.model.num_patches,
        )
        for step, (epoch_B, id_B) in enumerate(addresses)
    ]
    return np.stack(lengths)


def chi_square(count_I: np.ndarray, pmf_I: np.ndarray) -> tuple[float, int, float]:
    """Return statistic, degrees of freedom and p, with neighbours joined until each bin expects 5 draws.

    With a single bin there are 0 degrees of freedom and p is 1.
    """
    expected_I = count_I.sum() * pmf_I
    starts = [0]
    for place in range(len(pmf_I)):
        if expected_I[starts[-1] : place].sum() >= MIN_EXPECTED:
            starts.append(place)
    if expected_I[starts[-1] :].sum() < MIN_EXPECTED:
        starts.pop()
    if len(starts) <= 1:
        return 0.0, 0, 1.0
    tested = stats.chisquare(np.add.reduceat(count_I, starts), np.add.reduceat(expected_I, starts))
    return float(tested.statistic), len(starts) - 1, float(tested.pvalue)
