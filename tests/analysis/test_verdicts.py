"""Verdicts on every claim, from chosen numbers (``ablations/claims.py`` has the claims in words)."""

import pytest

from ablations.catalogue import STUDIES
from ablations.expectations import PROBE, STEP_TIME
from analysis.verdicts import WITHIN_MARGIN, verdicts
from tests.helpers.evidence import evidence_from, evidence_of

LOSS = "caption_loss"
MASKED = "causal_caption_loss"
METRICS = (LOSS, MASKED, PROBE, STEP_TIME)


def verdict_on(claim, slug, effects, spread=0.0005):
    study = STUDIES[slug]
    evidence = evidence_of(study, effects, spread=spread, metrics=METRICS)
    return verdicts(study, evidence)[claim]


SUPPORTED, REFUTED, INCONCLUSIVE = "supported", "refuted", "inconclusive"

CASES = [
    # claim, study, effects (losses fall and accuracies rise where an arm is better), verdict
    ("alpha-insensitive", "loss_weight", {}, SUPPORTED),
    ("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): 4}, REFUTED),
    ("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): -4}, REFUTED),
    ("alpha-insensitive", "loss_weight", {("alpha_06", PROBE): -0.1}, REFUTED),
    ("alpha-insensitive", "loss_weight", {("alpha_06", PROBE): 0.005}, REFUTED + WITHIN_MARGIN),
    ("alpha-insensitive", "loss_weight", {"alpha_00": 4, "alpha_20": -4}, SUPPORTED),  # outside 0.2 to 0.6
    ("both-losses-beat-text-only", "loss_weight", {("alpha_04", PROBE): 0.1}, SUPPORTED),
    ("both-losses-beat-text-only", "loss_weight", {("alpha_04", PROBE): 0.004}, SUPPORTED + WITHIN_MARGIN),
    ("both-losses-beat-text-only", "encoder_attention", {}, REFUTED),
    ("both-losses-beat-text-only", "objective", {("aimv2", PROBE): -0.1}, REFUTED),
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.1}, SUPPORTED),
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.005}, REFUTED),  # within a point
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.010}, INCONCLUSIVE),
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): 0.1}, REFUTED),
    *(
        ("prefix-beats-bidirectional-for-captioning", slug, effects, word)
        for slug, arm in (("encoder_attention", "prefix_text"), ("objective", "caption_prefix"))
        for effects, word in (
            ({(arm, PROBE): 0.1, (arm, LOSS): -0.1}, SUPPORTED),
            ({(arm, PROBE): 0.1, (arm, LOSS): 0.1}, INCONCLUSIVE),  # refuted by both only
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
    ("uniform-prefix-length", "prefix_distribution", {"mixed_25": -0.005}, REFUTED + WITHIN_MARGIN),
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
def test_verdict_follows_from_the_effects(claim, slug, effects, word):
    assert verdict_on(claim, slug, effects).word == word


def test_every_claim_of_every_study_has_supporting_and_refuting_cases():
    by_study = {(claim, slug) for slug, study in STUDIES.items() for claim in study.claims}
    words = {claim: {word for name, _, _, word in CASES if name == claim} for claim, _ in by_study}
    assert {(claim, slug) for claim, slug, _, _ in CASES} >= by_study
    for found in words.values():
        assert {SUPPORTED, REFUTED} <= {word.removesuffix(WITHIN_MARGIN) for word in found}


@pytest.mark.parametrize("slug", [slug for slug, study in STUDIES.items() if study.claims])
def test_wide_intervals_make_every_claim_inconclusive(slug):
    """No difference, and a spread of twenty times the margin."""
    study = STUDIES[slug]
    found = verdicts(study, evidence_of(study, {}, spread=0.4, metrics=METRICS))
    assert {one.word for one in found.values()} == {INCONCLUSIVE}


def test_evidence_lists_the_deciding_comparisons():
    found = verdict_on("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): 0.5})
    assert len(found.evidence) == 2, "both differences to alpha = 0.2, and no other"
    assert found.evidence[0].startswith("caption_loss, alpha = 0.2 minus alpha = 0.4: +0.")
    assert found.evidence[0].endswith(", worse")
    no_worse = verdict_on("uniform-prefix-length", "prefix_ratio", {"causal": 0.05}, spread=0.02)
    assert any("inconclusive, but not better by the margin or more" in text for text in no_worse.evidence)


def test_failed_control_makes_every_claim_inconclusive():
    study = STUDIES["loss_weight"]
    found = verdicts(study, evidence_of(study, {}, spread=0.0005, metrics=METRICS), failed=["positive_control"])
    assert {one.word for one in found.values()} == {"inconclusive: positive control failed"}


def test_claim_without_runs_is_inconclusive():
    nothing = evidence_from([], [])
    for slug in ("prefix_ratio", "decoder_sharing"):
        found = verdicts(STUDIES[slug], nothing)
        assert {one.word for one in found.values()} == {INCONCLUSIVE}
        assert all("not measured" in text for one in found.values() for text in one.evidence)
