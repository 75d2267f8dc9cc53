"""Numbers of seeds against simulations of the verdicts themselves, and against closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from aimv2.analysis.inference.intervals import Aim, Estimate, Noise, seeds_for
from aimv2.analysis.inference.items import with_items
from aimv2.analysis.judgement.rules import Word, aim_of, outcome

LEVEL = 0.975


def share_supported(relation, true, num_seeds, *, margin, effect, sd, items=0.0, num=4000):
    """Simulate differences, and return how often the relation is supported."""
    rng = np.random.default_rng(0)
    supported = 0
    for _ in range(num):
        values = rng.normal(true, sd, num_seeds)
        spread = float(values.std(ddof=1)) / math.sqrt(num_seeds)
        noise = Noise(spread * math.sqrt(num_seeds), items)
        mean = float(values.mean()) + rng.normal(0, items)
        one = Estimate(mean, noise.error(num_seeds), noise.df(num_seeds), num_seeds, LEVEL)
        supported += outcome(relation, one, margin, effect, lower_is_better=False).word is Word.SUPPORTED
    return supported / num


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("relation", "true", "margin", "effect"),
    [
        ("better", 0.02, 0.05, 0.02),
        ("worse", -0.03, 0.03, None),  # without a claimed effect, one of the margin's size
        ("far worse", -0.05, 0.03, 0.05),
        ("not worse", 0.0, 0.02, None),
        ("not better", 0.0, 0.02, 0.01),
        ("equal", 0.0, 0.02, None),
    ],
)
def test_that_many_seeds_support_a_true_relation_four_times_in_five(relation, true, margin, effect):
    sd = 0.04
    seeds = int(seeds_for(Noise(sd), aim_of(relation, margin, effect, LEVEL)))
    assert 10 < seeds < 200
    few = share_supported(relation, true, seeds - 5, margin=margin, effect=effect, sd=sd)
    enough = share_supported(relation, true, seeds, margin=margin, effect=effect, sd=sd)
    assert enough == pytest.approx(0.8, abs=0.025)
    assert few < enough


@pytest.mark.exhaustive
def test_the_items_part_of_the_error_stays():
    """With the items' part as large as that of 20 seeds, more seeds are needed; the power is that of a simulation."""
    aim = aim_of("better", 0.05, 0.05, LEVEL)
    noise = Noise(0.04, 0.04 / math.sqrt(20))
    seeds = int(seeds_for(noise, aim))
    assert seeds > seeds_for(Noise(0.04), aim)
    found = share_supported("better", 0.05, seeds, margin=0.05, effect=0.05, sd=noise.seeds, items=noise.items)
    assert found == pytest.approx(0.8, abs=0.03)


def test_no_number_of_seeds_makes_up_for_too_few_items():
    """The closed form: with a known error, 0.0308 is (2.241 + 0.842) errors of 0.01."""
    aim = Aim(0.0308, 0.0125)
    factor = stats.norm.ppf(0.9875) + stats.norm.ppf(0.8)
    assert seeds_for(Noise(0.04, 1.001 * 0.0308 / factor), aim) == math.inf
    assert math.isfinite(seeds_for(Noise(0.04, 0.99 * 0.0308 / factor), aim))
    assert seeds_for(Noise(0.0, 0.99 * 0.0308 / factor), aim) == 2


def test_an_effect_within_the_margin_is_never_far_worse():
    assert math.isnan(seeds_for(Noise(0.04), aim_of("far worse", 0.05, 0.05, LEVEL)))
    assert math.isnan(seeds_for(Noise(0.04), aim_of("better", 0.0, None, LEVEL)))
    assert seeds_for(Noise(0.0), aim_of("better", 0.1, None, LEVEL)) == 2


def test_noise_of_an_estimate_keeps_its_parts_apart():
    """Four seeds with a spread of 0.2, and items that add 0.05 to the error whatever the seeds."""
    seeds = Estimate(0.1, 0.1, 3, 4)
    covariance_SS = np.full((4, 4), 0.05**2)  # all of it is shared by seeds: there is no rest
    both = with_items(seeds, covariance_SS, 1000)
    assert both.error == pytest.approx(math.hypot(0.1, 0.05))
    noise = Noise.of(both)
    assert (noise.seeds, noise.items) == (pytest.approx(0.2), pytest.approx(0.05))
    assert noise.error(4) == pytest.approx(both.error)
    assert noise.df(4) == pytest.approx(both.df, abs=1), "which is rounded down"
    assert Noise.of(seeds) == Noise(pytest.approx(0.2), 0.0)
    assert Noise.of(replace(seeds, error=0.0)) == Noise(0.0)
