"""Seeds that decide a claim, against the minimum detectable difference and closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expectations import Combination, Ranges, expect
from aimv2.analysis.inference.intervals import Estimate, Noise, bonferroni, detectable_difference
from aimv2.analysis.judgement.planner import in_words, planner_of
from aimv2.analysis.judgement.sensitivity import MetricSensitivity, SampleCurve

METRIC, CLAIM = "content_loss", "beats-cappa-same-data"  # of no second readout
LEVEL = 0.998  # of a claim
NOISE = Noise(0.02)


def planner(*expectations, noise=NOISE, **sensitivity):
    study = replace(STUDIES["caption_order"], claims={CLAIM: expectations})
    seen = MetricSensitivity(METRIC, "sees all", noise=noise, **sensitivity)
    return planner_of(study, CLAIM, LEVEL, {METRIC: seen})


def better(**values):
    return expect("text_first", "better", than="image_first", metric=METRIC, **values)[0]


def test_seeds_detect_the_difference_and_one_fewer_do_not():
    def detectable(n):
        return detectable_difference(Estimate(0.0, 0.02 / np.sqrt(n), n - 1, n, LEVEL))

    seeds = planner(better(effect=0.01)).seeds
    assert detectable(seeds) <= 0.01 < detectable(seeds - 1)
    assert planner(better(margin=0.01)).seeds == seeds, "without a claimed effect the margin counts"
    assert planner(better(effect=0.01), better(effect=0.5)).seeds == seeds, "all comparisons count"


def test_the_margin_is_what_a_tenth_of_the_samples_is_worth():
    curve = SampleCurve({0.5: 0.1})
    assert planner(better(), curve=curve).seeds == planner(better(margin=curve.margin)).seeds


def test_more_seeds_do_not_reduce_the_items_part_of_the_error():
    limit = 0.01 / (Estimate(0.0, 1.0, math.inf, 2, LEVEL).critical + 0.8416)
    some, all_of_it = (planner(better(effect=0.01), noise=Noise(0.02, share * limit)) for share in (0.8, 1.01))
    assert planner(better(effect=0.01)).seeds < some.seeds < math.inf
    assert all_of_it.seeds == math.inf
    assert "no number of seeds" in all_of_it.text(better(effect=0.01), 8)


def test_a_blind_metric_takes_no_number_of_seeds_and_says_why():
    blind = planner(better(effect=0.01), is_blind=True)
    assert (math.isnan(blind.seeds), blind.blind) == (True, "sees all")
    unseen = planner(better(effect=0.01), unseen={"words": "does not see words"})
    assert (math.isnan(unseen.seeds), unseen.blind) == (True, "does not see words")
    assert not planner(better(effect=0.01), unseen={"depth": "does not see depth"}).blind, "not the claim's kind"
    unknown = planner_of(STUDIES["objective"], CLAIM, LEVEL, {})
    assert "was not measured" in unknown.blind


def test_noise_of_slopes_and_ranges_follows_from_their_weights():
    """Two arms have the squared weights 2, the difference of two slopes over 0, 1 and 2 has 1, and a range 4."""

    def detectable(squares, level):
        return detectable_difference(Estimate(0.0, 0.02 * math.sqrt(squares / 2 / 8), 7, 8, level))

    weights = {"a": -0.5, "b": 0.5, "c": 0.5, "d": -0.5}
    slopes = Combination(name="slopes", metric=METRIC, weights=weights, relation="better", effect=0.01)
    found = planner(slopes)
    assert f"8 seeds detect a difference of {detectable(1, LEVEL):.3g} with" in found.text(slopes, 8)
    ranges = Ranges(metric=METRIC, name="widths", than_name="depths", range_arms=("a", "b"), than_arms=("a", "c"))
    shown = planner(ranges).text(ranges, 8)
    assert f"a difference of {detectable(4, bonferroni(2, LEVEL)):.3g} with" in shown


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (math.nan, ""),
        (17.0, "About 17 seeds decide it."),
        (1000.0, "More than 999 seeds are needed."),
        (math.inf, "No number of seeds decides it: the error from the choice of evaluation items alone is too large."),
    ],
)
def test_seeds_in_words(seeds, words):
    assert in_words(seeds) == words
