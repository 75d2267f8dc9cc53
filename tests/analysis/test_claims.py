"""What becomes of each claim, from numbers that were chosen, as the paper's claims are refuted (their words are in
``ablations/claims.py``)."""

import numpy as np
import pandas as pd
import pytest

from ablations.catalogue import STUDIES
from ablations.expectations import PROBE, STEP_TIME
from analysis.conclude import verdicts
from analysis.load import METRIC_COLUMNS, Evidence

LOSS = "caption_loss"
MASKED = "causal_caption_loss"
NUM_SEEDS = 4


def evidence_of(study, effects, spread):
    """Evidence in which every arm has 3 in every metric, plus its effect, what its seed does to all arms, and noise.

    Args:
        effects: by arm, or by arm and metric.
    """
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.3, NUM_SEEDS)
    rows, runs = [], []
    for arm in study.arms:
        for seed in range(NUM_SEEDS):
            values = {
                metric: 3 + effects.get((arm, metric), effects.get(arm, 0)) + shared[seed] + rng.normal(0, spread)
                for metric in (LOSS, MASKED, PROBE, STEP_TIME)
            }
            runs.append(
                {"arm": arm, "seed": seed, "run": "", "samples": 500, "train_seconds": values.pop(STEP_TIME) / 2}
            )
            rows += [(arm, seed, metric, value, "unit", "") for metric, value in values.items()]
    return Evidence(
        runs=pd.DataFrame(runs),
        metrics=pd.DataFrame(rows, columns=METRIC_COLUMNS),
        not_applicable=pd.DataFrame(columns=METRIC_COLUMNS),
        curves=pd.DataFrame(),
        missing=pd.DataFrame(),
        examples={},
    )


def verdict_on(claim, slug, effects, spread=0.0005):
    study = STUDIES[slug]
    return next(one for one in verdicts(study, evidence_of(study, effects, spread)) if one.claim.id == claim)


SUPPORTED, REFUTED, UNDECIDED = "supported here", "refuted here", "undecided"
SMALL = ", by less than matters"

CASES = [
    # claim, study, effects (losses fall and accuracies rise where an arm is better), verdict
    ("alpha-insensitive", "loss_weight", {}, SUPPORTED),
    ("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): 4}, REFUTED),
    ("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): -4}, REFUTED),
    ("alpha-insensitive", "loss_weight", {("alpha_06", PROBE): -0.1}, REFUTED),
    ("alpha-insensitive", "loss_weight", {("alpha_06", PROBE): 0.005}, REFUTED + SMALL),
    ("alpha-insensitive", "loss_weight", {"alpha_00": 4, "alpha_20": -4}, SUPPORTED),  # outside 0.2 to 0.6
    ("both-losses-beat-text-only", "loss_weight", {("alpha_04", PROBE): 0.1}, SUPPORTED),
    ("both-losses-beat-text-only", "loss_weight", {("alpha_04", PROBE): 0.004}, SUPPORTED + SMALL),
    ("both-losses-beat-text-only", "encoder_attention", {}, REFUTED),
    ("both-losses-beat-text-only", "objective", {("aimv2", PROBE): -0.1}, REFUTED),
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.1}, SUPPORTED),
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.005}, REFUTED),  # within a point
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.010}, UNDECIDED),
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): 0.1}, REFUTED),
    *(
        ("prefix-beats-bidirectional-for-captioning", slug, effects, word)
        for slug, arm in (("encoder_attention", "prefix_text"), ("objective", "caption_prefix"))
        for effects, word in (
            ({(arm, PROBE): 0.1, (arm, LOSS): -0.1}, SUPPORTED),
            ({(arm, PROBE): 0.1, (arm, LOSS): 0.1}, UNDECIDED),  # refuted takes both
            ({(arm, PROBE): -0.1, (arm, LOSS): 0.1}, REFUTED),
            ({}, REFUTED),
        )
    ),
    ("prefix-beats-causal", "prefix_ratio", {("causal", LOSS): 0.5}, SUPPORTED),
    ("prefix-beats-causal", "prefix_ratio", {}, REFUTED),  # the causal encoder loses nothing either
    ("prefix-beats-causal", "prefix_ratio", {("causal", LOSS): 0.5, ("uniform", MASKED): -0.1}, REFUTED),
    ("prefix-beats-causal", "prefix_ratio", {("causal", LOSS): 0.5, ("causal", MASKED): -0.1}, REFUTED),
    ("uniform-prefix-length", "prefix_ratio", {"causal": 0.5}, SUPPORTED),
    ("uniform-prefix-length", "prefix_ratio", {"fixed_25": -0.5}, REFUTED),
    ("uniform-prefix-length", "prefix_distribution", {"mixed_25": -0.005}, REFUTED + SMALL),
    ("decoder-width-optimum", "decoder_width", {"width_050": -0.1, "width_150": -0.1}, SUPPORTED),
    ("decoder-width-optimum", "decoder_width", {"width_050": -0.1, "width_150": 0.1}, REFUTED),  # monotone
    ("decoder-width-optimum", "decoder_width", {"width_050": -0.1}, REFUTED),
    ("decoder-depth-optimum", "decoder_depth", {("depth_067", PROBE): -0.1}, SUPPORTED),
    ("decoder-depth-optimum", "decoder_depth", {}, REFUTED),  # 8 = 12
    ("decoder-depth-optimum", "decoder_depth", {("depth_067", PROBE): -0.1, ("depth_133", LOSS): -0.1}, REFUTED),
    ("joint-equals-separate-decoder", "decoder_sharing", {("separate", STEP_TIME): 1}, SUPPORTED),
    ("joint-equals-separate-decoder", "decoder_sharing", {("separate", STEP_TIME): -1}, REFUTED),  # not cheaper
    ("joint-equals-separate-decoder", "decoder_sharing", {("separate", STEP_TIME): 1, ("separate", LOSS): -1}, REFUTED),
    (
        "joint-equals-separate-decoder",
        "decoder_sharing",
        {("separate", STEP_TIME): 1, ("separate", LOSS): 1},
        SUPPORTED,
    ),
    ("image-first-order", "caption_order", {("text_first", PROBE): -0.1}, SUPPORTED),
    ("image-first-order", "caption_order", {}, REFUTED),
    ("swiglu-rmsnorm", "norm_ffn", {"rms_gelu": 0.5, "layer_swiglu": 0.5, "layer_gelu": 0.5}, SUPPORTED),
    ("swiglu-rmsnorm", "norm_ffn", {}, REFUTED),  # no measurable difference
    ("swiglu-rmsnorm", "norm_ffn", {"rms_gelu": 0.5, "layer_gelu": 0.5}, REFUTED),
    ("swiglu-rmsnorm", "norm_ffn", {"rms_gelu": 0.5, "layer_swiglu": -0.5, "layer_gelu": 0.5}, REFUTED),
    ("beats-clip-same-data", "objective", {"clip": -0.1}, SUPPORTED),
    ("beats-clip-same-data", "objective", {}, REFUTED),
    ("beats-cappa-same-data", "objective", {"cappa": -0.1}, SUPPORTED),
    ("beats-cappa-same-data", "objective", {"cappa": 0.1}, REFUTED),
    ("scaling-params-probe", "scaling", {}, REFUTED),  # the largest is no better than the smallest
    (
        "scaling-params-probe",
        "scaling",
        {f"size_{name}_samples_200": rise for name, rise in (("150", 0.1), ("200", 0.1), ("300", 0.2))},
        SUPPORTED,  # a plateau on the way is still monotone
    ),
    (
        "scaling-params-probe",
        "scaling",
        {f"size_{name}_samples_200": rise for name, rise in (("150", 0.2), ("200", 0.1), ("300", 0.3))},
        REFUTED,
    ),
    (
        "scaling-data-loss",
        "scaling",
        {arm: -0.1 * int(arm[-3:]) / 25 for arm in STUDIES["scaling"].arms},
        SUPPORTED,
    ),
    ("scaling-data-loss", "scaling", {}, REFUTED),
    ("scaling-resolution", "resolution", {"image_150": 0.1, "image_200": 0.2}, SUPPORTED),
    ("scaling-resolution", "resolution", {"image_150": 0.1, "image_200": 0.1}, REFUTED),
    (
        "data-mix",
        "data_mix",
        {(arm, metric): harm for arm in ("material", "fontawesome") for metric, harm in ((PROBE, -0.1), (LOSS, 0.1))},
        SUPPORTED,
    ),
    ("data-mix", "data_mix", {("material", LOSS): 0.1, "fontawesome": 0.1}, REFUTED),  # equal with a single source
    ("synthetic-captions", "synthetic_fraction", {"synthetic_000": -0.1, "synthetic_100": -0.1}, SUPPORTED),
    ("synthetic-captions", "synthetic_fraction", {"synthetic_000": -0.1}, REFUTED),
]


@pytest.mark.parametrize(("claim", "slug", "effects", "word"), CASES)
def test_a_claim_is_supported_or_refuted_by_what_is_shown(claim, slug, effects, word):
    assert verdict_on(claim, slug, effects).word == word


def test_every_claim_of_every_study_has_a_case_each_way():
    claims = {(claim, slug) for slug, study in STUDIES.items() for claim in study.claims}
    for_claim = {claim: {case[3].removesuffix(SMALL) for case in CASES if case[0] == claim} for claim, _ in claims}
    assert {(claim, slug) for claim, slug, _, _ in CASES} >= claims
    assert all({SUPPORTED, REFUTED} <= words for words in for_claim.values())


@pytest.mark.parametrize("slug", [slug for slug, study in STUDIES.items() if study.claims])
def test_what_the_spread_hides_decides_nothing(slug):
    """No difference, and a spread of twenty times what would matter: neither a difference nor its absence is shown."""
    study = STUDIES[slug]
    assert {one.word for one in verdicts(study, evidence_of(study, {}, 0.4))} == {UNDECIDED}


def test_what_decides_a_claim_is_said():
    found = verdict_on("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): 0.5})
    assert found.why.startswith("caption_loss, alpha = 0.2 minus alpha = 0.4: +0.")
    assert found.why.count(";") == 1, "both differences to alpha = 0.2, and no other"
    assert found.why.endswith("different: worse")
    no_worse = verdict_on("uniform-prefix-length", "prefix_ratio", {"causal": 0.05}, spread=0.02)
    assert "undecided, but not better by as much as matters" in no_worse.why


def test_a_claim_without_runs_is_undecided():
    study = STUDIES["prefix_ratio"]
    nothing = Evidence(
        runs=pd.DataFrame(columns=["arm", "seed", "run"]),
        metrics=pd.DataFrame(columns=METRIC_COLUMNS),
        not_applicable=pd.DataFrame(columns=METRIC_COLUMNS),
        curves=pd.DataFrame(),
        missing=pd.DataFrame(),
        examples={},
    )
    assert {one.word for one in verdicts(study, nothing)} == {UNDECIDED}
    assert all("too few seeds" in one.why for one in verdicts(study, nothing))
    assert verdicts(STUDIES["decoder_sharing"], nothing)[0].word == UNDECIDED
