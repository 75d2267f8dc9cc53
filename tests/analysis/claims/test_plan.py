"""Plans of checks: their numbers of seeds, arms and folders."""

import json
import math
from dataclasses import replace

import pytest

from ablations.catalogue import STUDIES
from ablations.claims import CLAIMS
from ablations.expectations import CONTENT, PROBE
from analysis.claims.plan import MAX_SEEDS, OWN_KEYS, plan_check
from analysis.inference.intervals import Estimate, bonferroni, detectable_difference
from analysis.inference.looks import looks_path
from analysis.inference.power import Noise, aim_of, seeds_for
from analysis.judgement.sensitivity import COMMITTED, ladder_text, read_ladder

CLAIM = "uniform-prefix-length"
COMMITTED_LADDER = read_ladder(COMMITTED / "sensitivity" / "sensitivity.json")
NOISE = COMMITTED_LADDER.metrics


def plan_of(claim, tmp_path, *, items_error=None, **own):
    """Plan with the committed sensitivity, in which the choice of items adds this error; None was not measured."""
    metrics = {name: replace(seen, items_error=items_error) for name, seen in COMMITTED_LADDER.metrics.items()}
    folder = tmp_path / "checks" / "sensitivity"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sensitivity.json").write_text(ladder_text(replace(COMMITTED_LADDER, metrics=metrics)))
    return plan_check(CLAIMS[claim], OWN_KEYS | {"runs_dir": str(tmp_path)} | own, [])


def test_seeds_are_those_that_show_the_effect_within_limits(tmp_path):
    """Noninferiority has a one-sided interval, whose minimum detectable difference is that of twice the error rate."""
    noise = NOISE[CONTENT].paired_sd
    study = STUDIES["prefix_ratio"]
    level = 1 - 2 * (1 - bonferroni(len(study.claims), 0.975))
    fitting = next(
        n
        for n in range(2, 100)
        if detectable_difference(Estimate(0.0, noise / math.sqrt(n), n - 1, n, level)) <= study.equivalence_margin
    )
    assert plan_of(CLAIM, tmp_path).num_seeds == max(fitting, len(study.seeds))
    assert f"one of 0.1 takes {fitting} seeds" in plan_of(CLAIM, tmp_path).text[4]
    assert f"sweep.seeds={MAX_SEEDS}" in plan_of("decoder-width-optimum", tmp_path).launch, "0.003 takes hundreds"
    assert "sweep.seeds=4" in plan_of("both-losses-beat-image-only", tmp_path).launch, "0.136 takes fewer"


def test_the_level_is_that_of_the_next_look(tmp_path):
    """A second look has half the error rate of the first."""
    path = looks_path(tmp_path, "prefix_ratio")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"seeds": [0, 1], "runs": ["a", "b"]}]))
    study, noise = STUDIES["prefix_ratio"], NOISE[CONTENT].paired_sd
    level = bonferroni(len(study.claims), 0.9875)
    (text,) = {line.partition(": ")[2] for line in plan_of(CLAIM, tmp_path, seeds="6").text[4:6]}
    aim = aim_of("not better", study.equivalence_margin, None, level)
    assert f" a difference of {aim.detectable(Noise(noise), 6):.3g} with 80 % power" in text
    assert f"takes {seeds_for(Noise(noise), aim):g} seeds" in text


@pytest.mark.exhaustive
def test_the_items_part_of_the_error_counts_if_it_was_measured(tmp_path):
    without = plan_of(CLAIM, tmp_path)
    some = plan_of(CLAIM, tmp_path, items_error=0.01)
    assert some.num_seeds >= without.num_seeds
    # 0.1 is excluded with 80 % power if the error is below 0.1 / (2.50 + 0.84), at 97.5 % over four claims
    much = plan_of(CLAIM, tmp_path, items_error=0.031)
    assert "one of 0.1 takes no number of seeds" in much.text[4]
    assert much.num_seeds == len(STUDIES["prefix_ratio"].seeds), "more would not help"


def test_noise_of_slopes_and_ranges_follows_from_their_weights(tmp_path):
    """Two arms have the squared weights 2, the difference of two slopes over 0, 1 and 2 has 1, and a range 4."""
    paired = NOISE[PROBE].paired_sd
    claims = ("no-large-batch", "width-matters-more-than-depth")
    texts = {claim: plan_of(claim, tmp_path, seeds="8").text for claim in claims}

    def detectable(squares, level):
        return detectable_difference(Estimate(0.0, paired * math.sqrt(squares / 2 / 8), 7, 8, level))

    assert f"8 seeds detect a difference of {detectable(1, 0.975):.3g} with" in texts["no-large-batch"][4]
    widths = 1 - 0.025 / 18
    assert f"a difference of {detectable(4, widths):.3g} with" in texts["width-matters-more-than-depth"][4]


def test_all_arms_are_not_listed(tmp_path):
    """The launcher notes arguments that repeat a default."""
    whole = plan_of("scaling-data-loss", tmp_path)
    assert not [word for word in whole.launch if word.startswith("sweep.arms=")]
    assert f"It takes {len(whole.study.arms)} of {len(whole.study.arms)} arms" in whole.text[2]
    assert "sweep.arms=[uniform,fixed_50,causal]" in plan_of(CLAIM, tmp_path).launch


def test_another_scale_and_budget_name_another_report():
    plan = plan_check(CLAIMS[CLAIM], OWN_KEYS, ["scale=tiny", "sweep.equal=flops"])
    assert plan.folder == "prefix_ratio_equal_flops_tiny"
    assert plan.blind, "nothing was measured there"
