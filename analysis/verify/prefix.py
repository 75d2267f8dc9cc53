"""Experiment 1a: the prefix lengths that training drew, against their law. Letters: I patches, B images of a step."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from aimv2.data.order import sample_order
from aimv2.data.pairs import mixture
from aimv2.objectives import objective
from analysis.verify.line import Line, judged, not_applicable
from analysis.verify.subject import Subject

MOST_DRAWS = 20_000
LEAST_P = 1e-3  # a sound law fails at one seed in a thousand
LEAST_EXPECTED = 5.0  # draws in a bin, below which chi-square's approximation is poor; such bins are joined
NUM_BUILT = 3  # batches that are built whole, to see that they carry the lengths tested here
TITLE = "prefix lengths follow their law"


class PrefixLengths(NamedTuple):
    """The line, how often each prefix length 1..I was drawn [I], and the law [I]; no draws are counted where training
    reads none."""

    line: Line
    count_I: np.ndarray
    pmf_I: np.ndarray


def prefix_lengths(subject: Subject) -> PrefixLengths:
    """Chi-square test of the training batches' prefix lengths.

    Passes if the batches as built carry the lengths that are tested, no length occurs that the law excludes,
    and p >= 0.001 (with a law of one length: every draw is that length). With ``per='batch'`` the images of a step must
    agree, and a step is one draw. Not applicable where neither the encoder's mask nor a pixel loss reads the lengths.
    """
    config = subject.config
    pmf_I = config.prefix.pmf(config.model.num_patches)
    attention = config.model.encoder.attention
    if attention != "prefix" and "pixels" not in objective(config.objective.name).reports:
        why = f"nothing reads prefix lengths with {attention} attention in the encoder and no pixel loss"
        return PrefixLengths(not_applicable("1a", TITLE, why), np.zeros(len(pmf_I), dtype=int), pmf_I)
    drawn = _drawn(subject)
    is_per_batch = config.prefix.per == "batch"
    length_N = np.concatenate([step_B[:1] if is_per_batch else step_B for step_B in drawn])
    count_I = np.bincount(length_N, minlength=len(pmf_I) + 1)[1 : len(pmf_I) + 1]
    draws = f"{len(length_N):,} {'steps' if is_per_batch else 'samples'}, law {config.prefix.law}"

    def fail(found: str, criterion: str) -> PrefixLengths:
        return PrefixLengths(judged("1a", TITLE, False, f"{found}; {draws}", criterion), count_I, pmf_I)

    built = [subject.batches[step].prefix_len_B.numpy() for step in range(min(NUM_BUILT, len(drawn)))]
    if not all(np.array_equal(one, other) for one, other in zip(built, drawn, strict=False)):
        return fail("batches carry other lengths than their addresses give", "the same")
    if is_per_batch and any((step_B != step_B[0]).any() for step_B in drawn):
        return fail("images of one step differ", "one length a step, for per='batch'")
    num_impossible = len(length_N) - int(count_I[pmf_I > 0].sum())
    if num_impossible:
        return fail(f"{num_impossible:,} draws have a length of probability 0", "none")
    if (pmf_I > 0).sum() == 1:
        found = f"all draws are {pmf_I.argmax() + 1} of {len(pmf_I)} patches; {draws}"
        return PrefixLengths(judged("1a", TITLE, True, found, "the law's one length"), count_I, pmf_I)
    statistic, degrees, p = chi_square(count_I, pmf_I)
    if degrees == 0:
        line = not_applicable("1a", TITLE, f"too few draws for a test; {draws}")
    else:
        found = f"chi-square {statistic:.1f} on {degrees} degrees of freedom, p = {p:.3g}; {draws}"
        line = judged("1a", TITLE, p >= LEAST_P, found, f"p >= {LEAST_P:g}")
    return PrefixLengths(line, count_I, pmf_I)


def _drawn(subject: Subject) -> list[np.ndarray]:
    """Prefix lengths of the first steps [B] each, from the addresses that ``TrainBatches`` draws from."""
    config, size = subject.config, subject.config.budget.batch_size
    sample_ids = subject.train.table["sample_id"].to_numpy()
    mixed = mixture(config.data, subject.train)
    drawn = []
    for step in range(min(config.budget.num_steps, -(-MOST_DRAWS // size))):
        epoch_B, row_B = sample_order(
            seed=config.seed,
            start=step * size,
            stop=(step + 1) * size,
            num_rows=len(sample_ids),
            mixture=mixed,
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
    """Statistic, degrees of freedom and p of counts against a law, neighbours joined until each bin expects 5 draws.

    With no bin left to compare there are 0 degrees of freedom and p is 1.
    """
    counts, expectations = [0.0], [0.0]
    for count, expected in zip(count_I, count_I.sum() * pmf_I, strict=True):
        if expectations[-1] >= LEAST_EXPECTED:
            counts.append(0.0)
            expectations.append(0.0)
        counts[-1] += count
        expectations[-1] += expected
    if expectations[-1] < LEAST_EXPECTED and len(counts) > 1:
        last = counts.pop(), expectations.pop()
        counts[-1] += last[0]
        expectations[-1] += last[1]
    if len(counts) == 1:
        return 0.0, 0, 1.0
    tested = stats.chisquare(counts, expectations)
    return float(tested.statistic), len(counts) - 1, float(tested.pvalue)
