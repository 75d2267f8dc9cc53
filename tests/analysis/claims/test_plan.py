"""Plans of checks: their numbers of seeds, arms and folders."""

import json
import math

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.analysis.claims.plan import MAX_SEEDS, OWN_KEYS, base_of_study, plan_check
from aimv2.analysis.inference.intervals import Estimate, detectable_difference
from aimv2.analysis.inference.looks import looks_path
from tests.helpers.ladders import ladder_of, seeing, write_ladder

CLAIM = "uniform-prefix-length"
METRICS = ("content_loss", "causal_content_loss", "reader_loss", "probe_ink")
NOISE = 0.08
MARGIN = 0.4 * math.log(0.9) / math.log(0.75)  # of a metric that is 0.4 worse with three quarters of the samples


def plan_of(claim, tmp_path, *, changed=None, noise=NOISE, items_error=None, **own):
    """Plan at demo with a sensitivity of this noise, in which metrics see all rungs but the changed ones."""
    study = STUDIES[own.get("study") or CLAIMS[claim].studies[0]]
    others = [] if study.scale == "demo" else ["scale=demo"]
    config = study.arm(study.baseline).change(base_of_study(study, others))
    harms = seeing(*METRICS, **changed or {})
    write_ladder(tmp_path / "checks", ladder_of(harms, config, paired_sd=noise, items_error=items_error))
    return plan_check(CLAIMS[claim], OWN_KEYS | {"runs_dir": str(tmp_path)} | own, others)


def detectable(noise, num_seeds, level):
    return detectable_difference(Estimate(0.0, noise / math.sqrt(num_seeds), num_seeds - 1, num_seeds, level))


def fitting(noise, margin, level):
    return next(n for n in range(2, 999) if detectable(noise, n, level) <= margin)


SHARE = 0.05 / 2  # of a claim that is checked alone, at a first look at 16 seeds


def test_seeds_are_those_that_rule_out_the_margin(tmp_path):
    """Noninferiority has a one-sided interval, whose minimum detectable difference is that of twice the error rate."""
    seeds = fitting(NOISE, MARGIN, 1 - 2 * SHARE)
    assert 4 < seeds <= MAX_SEEDS
    plan = plan_of(CLAIM, tmp_path)
    assert plan.num_seeds == seeds
    assert f"sweep.seeds={seeds}" in plan.launch
    assert f"one of {MARGIN:.3g} takes {seeds} seeds" in plan.text[4]
    assert plan_of(CLAIM, tmp_path, noise=0.01).num_seeds == len(STUDIES["prefix_distribution"].seeds), "never fewer"
    assert plan_of(CLAIM, tmp_path, noise=0.2).num_seeds == MAX_SEEDS


def test_the_level_is_that_of_the_next_look(tmp_path):
    """A look at two seeds has spent a tenth of the errors; one at eight spends the planned quarter without it."""
    path = looks_path(tmp_path, "prefix_distribution")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"seeds": [0, 1], "runs": ["a", "b"]}]))
    text = plan_of(CLAIM, tmp_path, seeds="8").text[4]
    level = 1 - 2 * 0.05 * (0.25 - 0.1)
    assert f" a difference of {detectable(NOISE, 8, level):.3g} with 80 % power" in text
    assert f"takes {fitting(NOISE, MARGIN, level)} seeds" in text


def test_a_claim_that_says_better_has_the_seeds_that_show_that_nothing_is(tmp_path):
    text = plan_of("beats-cappa-same-data", tmp_path, seeds="16").text[4]
    seeds = fitting(NOISE, MARGIN, 1 - 2 * SHARE)
    assert text.endswith(f"if there is none, {seeds} show that it is negligible")


@pytest.mark.exhaustive
def test_the_items_part_of_the_error_counts_if_it_was_measured(tmp_path):
    without = plan_of(CLAIM, tmp_path)
    some = plan_of(CLAIM, tmp_path, items_error=0.01)
    assert some.num_seeds >= without.num_seeds
    much = plan_of(CLAIM, tmp_path, items_error=MARGIN / 2.5)  # at this level the margin must be 2.8 errors or more
    assert f"one of {MARGIN:.3g} takes no number of seeds" in much.text[4]
    assert much.num_seeds == len(STUDIES["prefix_distribution"].seeds), "more would not help"


def test_a_blind_metric_is_named_before_anything_runs(tmp_path):
    blind = plan_of(CLAIM, tmp_path, changed={"hidden_050": 0.0}).blind
    assert "content_loss does not see half of the patches hidden (+0.000 [-0.100, +0.100], 4 seeds)" in blind
    assert f"Checks read sensitivity studies in {tmp_path / 'checks'}" in blind
    assert not plan_of(CLAIM, tmp_path, changed={"width_050": 0.0}).blind, "the claim is not about width"


def test_arms_are_those_of_the_claim_and_all_are_not_listed(tmp_path):
    """The launcher notes arguments that repeat a default."""
    assert "sweep.arms=[uniform,causal]" in plan_of("prefix-without-mask-is-best", tmp_path).launch
    whole = plan_of("swiglu-rmsnorm", tmp_path)
    assert not [word for word in whole.launch if word.startswith("sweep.arms=")]
    assert f"It takes {len(whole.study.arms)} of {len(whole.study.arms)} arms" in whole.text[2]


def test_another_scale_and_budget_name_another_report():
    plan = plan_check(CLAIMS[CLAIM], OWN_KEYS, ["scale=tiny", "sweep.equal=flops"])
    assert plan.folder == "prefix_distribution_equal_flops_tiny"
    assert plan.blind, "nothing was measured there"


@pytest.mark.parametrize("slug", ["prefix_ratio", "caption_order"])
def test_the_scale_is_that_of_the_study_unless_another_is_typed(slug):
    study = STUDIES[slug]
    assert base_of_study(study).scale == study.scale
    assert base_of_study(study, ["scale=tiny", "sweep.seeds=2"]).scale == "tiny"


@pytest.mark.parametrize(
    ("own", "launched"),
    [
        ({}, {"limit=2h"}),
        ({"limit": "1h"}, {"limit=1h"}),
        ({"dry_run": "true"}, {"price=false", "dry_run=true"}),
        ({"dry_run": "true", "price": "true"}, {"limit=2h", "dry_run=true"}),
        ({"price": "false"}, {"price=false"}),
        ({"price": "false", "limit": "1EFLOPs"}, {"price=false", "limit=1EFLOPs"}),
    ],
)
def test_time_is_measured_for_a_limit_and_not_for_a_dry_run(tmp_path, own, launched):
    words = plan_of(CLAIM, tmp_path, **own).launch
    assert {word for word in words if word.partition("=")[0] in ("limit", "price", "dry_run")} == launched
