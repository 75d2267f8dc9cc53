"""Verdicts on every claim, from chosen numbers (``ablations/claims.py`` has the claims in words)."""

from dataclasses import replace

import pandas as pd
import pytest

from ablations.catalogue import STUDIES
from ablations.expectations import DIGITS, PROBE, STEP_TIME, expect
from analysis.evidence.load import MISSING_COLUMNS
from analysis.inference.relations import Word
from analysis.judgement.controls import check_controls
from analysis.judgement.sensitivity import MetricSensitivity, not_measured
from analysis.judgement.verdicts import verdicts
from tests.helpers.evidence import evidence_from, evidence_of, passed_controls, sensitive

LOSS = "content_loss"
MASKED = "causal_content_loss"
MASKED_PROBE = f"causal_{PROBE}"
METRICS = (LOSS, MASKED, PROBE, MASKED_PROBE, DIGITS, STEP_TIME)
SUPPORTED, CONTRADICTED, SMALLER = Word.SUPPORTED, Word.CONTRADICTED, Word.SMALLER
UNDECIDED, NOT_TESTABLE = Word.UNDECIDED, Word.NOT_TESTABLE


def judged(study, evidence, **changed):
    """Return verdicts with controls that passed and metrics that are sensitive."""
    options = {"controls": passed_controls(study), "sensitivity": sensitive(*METRICS), "scale": "demo"}
    return verdicts(study, evidence, **options | changed)


def verdict_on(claim, slug, effects, spread=0.0002):
    study = STUDIES[slug]
    return judged(study, evidence_of(study, effects, spread=spread, metrics=METRICS))[claim]


def harms(*arms):
    """Return effects that are worse in losses and accuracies."""
    return {(arm, metric): -0.5 if "probe" in metric else 0.5 for arm in arms for metric in METRICS}


def lead(*sizes):
    """Return effects in which AIMv2 leads captioning by these sizes, at a quarter of the samples to twice as many."""
    return {f"aimv2_samples_{name}": size for name, size in zip(("025", "050", "100", "200"), sizes, strict=True)}


WIDTHS = {"width_050": -0.2, "width_150": 0.1, "width_082": -0.1}


CASES = [
    # claim, study, effects (losses fall and accuracies rise where an arm is better), verdict
    ("alpha-insensitive", "loss_weight", {}, SUPPORTED),
    ("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): 4}, CONTRADICTED),
    ("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): -4}, CONTRADICTED),
    ("alpha-insensitive", "loss_weight", {("alpha_06", PROBE): -0.1}, CONTRADICTED),
    ("alpha-insensitive", "loss_weight", {("alpha_06", PROBE): 0.005}, SUPPORTED),  # detected, within the margin
    ("alpha-insensitive", "loss_weight", {("alpha_06", PROBE): 0.010}, UNDECIDED),
    ("alpha-insensitive", "loss_weight", {"alpha_00": 4, "alpha_20": -4}, SUPPORTED),  # outside 0.2 to 0.6
    ("high-res-adaptation", "high_res_adaptation", {("same_size", PROBE): -0.02}, SUPPORTED),
    ("high-res-adaptation", "high_res_adaptation", {("same_size", PROBE): 0.02}, CONTRADICTED),
    ("zero-weight-decay", "high_res_adaptation", {("weight_decay", PROBE): -0.02}, SUPPORTED),
    ("zero-weight-decay", "high_res_adaptation", {("weight_decay", PROBE): 0.02}, CONTRADICTED),
    ("v1-normalised-pixels", "loss_form", {("raw", PROBE): -0.1}, SUPPORTED),
    ("v1-normalised-pixels", "loss_form", {("raw", PROBE): 0.1}, CONTRADICTED),
    ("v1-normalised-pixels", "loss_form", {}, UNDECIDED),
    ("both-losses-beat-text-only", "loss_weight", {("alpha_04", PROBE): 0.1}, SUPPORTED),
    ("both-losses-beat-text-only", "loss_weight", {("alpha_04", PROBE): 0.004}, SUPPORTED),
    ("both-losses-beat-text-only", "encoder_attention", {}, SMALLER),  # 0.002 is ruled out
    ("both-losses-beat-text-only", "objective", {("aimv2", PROBE): -0.1}, CONTRADICTED),
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.2}, SUPPORTED),
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.1}, SUPPORTED),  # smaller than 0.136
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.005}, SMALLER),  # within a point
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): -0.010}, SMALLER),
    ("both-losses-beat-image-only", "objective", {("image_only", PROBE): 0.1}, CONTRADICTED),
    *(
        ("prefix-beats-bidirectional-for-captioning", slug, effects, word)
        for slug, arm in (("encoder_attention", "prefix_text"), ("objective", "caption_prefix"))
        for effects, word in (
            ({(arm, PROBE): 0.1, (arm, LOSS): -0.1}, SUPPORTED),
            ({(arm, PROBE): 0.1, (arm, LOSS): 0.1}, UNDECIDED),  # contradicted by both only
            ({(arm, PROBE): -0.1, (arm, LOSS): 0.1}, CONTRADICTED),
            ({}, UNDECIDED),
        )
    ),
    ("prefix-beats-causal", "prefix_ratio", {("causal", LOSS): 0.5, ("causal_same_patches", LOSS): 0.5}, SUPPORTED),
    ("prefix-beats-causal", "prefix_ratio", {("causal", LOSS): 0.5}, SMALLER),  # perhaps for another reason
    ("prefix-beats-causal", "prefix_ratio", {("causal", LOSS): 0.5, ("causal_same_patches", LOSS): 0.1}, UNDECIDED),
    ("prefix-beats-causal", "prefix_ratio", {}, SMALLER),  # 0.1 is ruled out
    ("prefix-beats-causal", "prefix_ratio", {("causal", LOSS): 0.5, ("uniform", MASKED): -0.2}, CONTRADICTED),
    ("prefix-beats-causal", "prefix_ratio", {("causal", LOSS): -0.5}, CONTRADICTED),
    ("prefix-without-mask-is-best", "prefix_ratio", {("causal", LOSS): 0.5}, SUPPORTED),
    ("prefix-without-mask-is-best", "prefix_ratio", {}, SUPPORTED),  # it need not be better
    ("prefix-without-mask-is-best", "prefix_ratio", {("causal", MASKED): -0.2}, CONTRADICTED),
    ("prefix-beats-causal-probe", "prefix_ratio", {("causal", PROBE): -0.1}, SUPPORTED),
    ("prefix-beats-causal-probe", "prefix_ratio", {}, UNDECIDED),
    ("prefix-beats-causal-probe", "prefix_ratio", {("causal", PROBE): 0.1}, CONTRADICTED),
    ("prefix-beats-causal-probe", "prefix_ratio", {("causal", MASKED_PROBE): 0.1}, CONTRADICTED),
    ("uniform-prefix-length", "prefix_ratio", {"causal": 0.5}, SUPPORTED),
    ("uniform-prefix-length", "prefix_ratio", {"fixed_50": -0.5}, CONTRADICTED),
    ("uniform-prefix-length", "prefix_distribution", {"mixed_25": -0.005}, SUPPORTED),  # better, within the margin
    ("decoder-width-optimum", "decoder_width", {"width_050": -0.1, "width_150": -0.1}, SUPPORTED),
    ("decoder-width-optimum", "decoder_width", {"width_050": -0.1, "width_150": 0.1}, CONTRADICTED),  # monotone
    ("decoder-width-optimum", "decoder_width", {"width_050": -0.1}, SMALLER),  # 0.005 is ruled out for the wider one
    ("decoder-depth-optimum", "decoder_depth", {("depth_067", PROBE): -0.1}, SUPPORTED),
    ("decoder-depth-optimum", "decoder_depth", {}, SMALLER),
    ("decoder-depth-optimum", "decoder_depth", {("depth_067", PROBE): -0.1, ("depth_133", PROBE): 0.1}, CONTRADICTED),
    ("joint-equals-separate-decoder", "decoder_sharing", {("separate", STEP_TIME): 1}, SUPPORTED),
    ("joint-equals-separate-decoder", "decoder_sharing", {("separate", STEP_TIME): -1}, CONTRADICTED),  # not cheaper
    (
        "joint-equals-separate-decoder",
        "decoder_sharing",
        {("separate", STEP_TIME): 1, ("separate", PROBE): 1},
        CONTRADICTED,
    ),
    (
        "joint-equals-separate-decoder",
        "decoder_sharing",
        {("separate", STEP_TIME): 1, ("separate", PROBE): -1},
        SUPPORTED,
    ),
    ("image-first-order", "caption_order", {("text_first", PROBE): -0.1}, SUPPORTED),
    ("image-first-order", "caption_order", {("text_first", PROBE): 0.1}, CONTRADICTED),
    ("image-first-order", "caption_order", {}, UNDECIDED),
    ("swiglu-rmsnorm", "norm_ffn", harms("rms_gelu", "layer_swiglu", "layer_gelu"), SUPPORTED),
    ("swiglu-rmsnorm", "norm_ffn", {}, UNDECIDED),
    ("swiglu-rmsnorm", "norm_ffn", harms("rms_gelu", "layer_gelu"), UNDECIDED),
    ("swiglu-rmsnorm", "norm_ffn", {("layer_swiglu", PROBE): 0.1}, CONTRADICTED),
    ("swiglu-rmsnorm", "norm_ffn", {("layer_swiglu", LOSS): -0.5}, CONTRADICTED),
    ("beats-clip-same-data", "objective", {"clip": -0.1, "clip_batch_200": -0.1}, SUPPORTED),
    ("beats-clip-same-data", "objective", {"clip": -0.1, "clip_batch_200": 0.1}, CONTRADICTED),
    ("beats-clip-same-data", "objective", {"clip": -0.1}, SMALLER),  # 0.004 is ruled out with twice the batch
    ("beats-cappa-same-data", "objective", {"cappa": -0.1}, SUPPORTED),
    ("beats-cappa-same-data", "objective", {"cappa": 0.1}, CONTRADICTED),
    ("scaling-params-probe", "scaling", {}, SMALLER),
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
        CONTRADICTED,
    ),
    (
        "scaling-data-loss",
        "scaling",
        {arm: -0.1 * int(arm[-3:]) / 25 for arm in STUDIES["scaling"].arms},
        SUPPORTED,
    ),
    ("scaling-data-loss", "scaling", {"size_150_samples_200": 0.5}, CONTRADICTED),
    ("scaling-data-loss", "scaling", {}, UNDECIDED),
    ("scaling-resolution", "resolution", {"image_150": 0.1, "image_200": 0.2}, SUPPORTED),
    ("scaling-resolution", "resolution", {"image_150": 0.1, "image_200": 0.1}, SMALLER),
    ("scaling-resolution", "resolution", {"image_150": 0.1}, CONTRADICTED),
    ("data-mix", "data_mix", {"material": -0.1, "fontawesome": -0.1}, SUPPORTED),
    ("data-mix", "data_mix", {"material": -0.1, "fontawesome": 0.1}, CONTRADICTED),
    ("synthetic-captions", "synthetic_fraction", {"synthetic_000": -0.1, "synthetic_100": -0.1}, SUPPORTED),
    ("synthetic-captions", "synthetic_fraction", {"synthetic_000": 0.1}, CONTRADICTED),
    ("synthetic-captions", "synthetic_fraction", {"synthetic_000": -0.1}, UNDECIDED),
    ("v1-raster-order", "patch_order", {"spiral": -0.1, "random": -0.1}, SUPPORTED),
    ("v1-raster-order", "patch_order", {"spiral": -0.1}, SMALLER),
    ("v1-raster-order", "patch_order", {"spiral": -0.1, "random": 0.1}, CONTRADICTED),
    ("v1-crop-scale", "crop_scale", {"area_008": -0.1, "area_100": -0.2}, SUPPORTED),
    ("v1-crop-scale", "crop_scale", {"area_008": -0.1, "area_100": -0.1}, SUPPORTED),  # smaller than 0.147
    ("v1-crop-scale", "crop_scale", {"area_008": -0.1, "area_100": 0.1}, CONTRADICTED),
    # Gains per doubling of the batch: 0.1 and 0; 0.1 and 0.2; 0 and 0; 0.2 and 0.1.
    ("no-large-batch", "batch_size", {"clip_batch_200": 0.1, "clip_batch_400": 0.2}, SUPPORTED),
    (
        "no-large-batch",
        "batch_size",
        {"clip_batch_200": 0.1, "clip_batch_400": 0.2, "aimv2_batch_200": 0.2, "aimv2_batch_400": 0.4},
        CONTRADICTED,
    ),
    ("no-large-batch", "batch_size", {}, SMALLER),  # 0.006 per doubling is ruled out
    (
        "no-large-batch",
        "batch_size",
        {"clip_batch_200": 0.2, "clip_batch_400": 0.4, "aimv2_batch_200": 0.1, "aimv2_batch_400": 0.2},
        CONTRADICTED,  # AIMv2 gains less, but more than a point
    ),
    ("width-matters-more-than-depth", "decoder_size", WIDTHS, SUPPORTED),
    ("width-matters-more-than-depth", "decoder_size", {"width_050": -0.2}, UNDECIDED),  # with other steps in weights
    ("width-matters-more-than-depth", "decoder_size", WIDTHS | {"depth_067": -0.4}, CONTRADICTED),
    ("width-matters-more-than-depth", "decoder_size", WIDTHS | {"depth_067": -0.15}, CONTRADICTED),  # per weight
    ("aimv2-vs-cap-at-every-scale", "sample_efficiency", lead(0.1, 0.2, 0.3, 0.4), SUPPORTED),
    ("aimv2-vs-cap-at-every-scale", "sample_efficiency", lead(0.1, 0.1, 0.1, 0.1), UNDECIDED),  # it does not grow
    ("aimv2-vs-cap-at-every-scale", "sample_efficiency", lead(0.4, 0.3, 0.2, 0.1), CONTRADICTED),
    ("aimv2-vs-cap-at-every-scale", "sample_efficiency", lead(-0.1, 0.2, 0.3, 0.4), CONTRADICTED),
    ("fewer-samples-than-contrastive", "sample_efficiency", {}, SUPPORTED),  # as good is enough
    ("fewer-samples-than-contrastive", "sample_efficiency", {"clip_samples_100": 0.1}, CONTRADICTED),
]


@pytest.mark.parametrize(("claim", "slug", "effects", "word"), CASES)
def test_verdict_follows_from_the_effects(claim, slug, effects, word):
    assert verdict_on(claim, slug, effects).word is word


def test_every_claim_of_every_study_has_cases_for_and_against_it():
    by_study = {(claim, slug) for slug, study in STUDIES.items() for claim in study.claims}
    words = {claim: {word for name, _, _, word in CASES if name == claim} for claim, _ in by_study}
    assert {(claim, slug) for claim, slug, _, _ in CASES} >= by_study
    for found in words.values():
        assert {SUPPORTED, CONTRADICTED} <= found


@pytest.mark.parametrize("slug", [slug for slug, study in STUDIES.items() if study.claims])
def test_wide_intervals_leave_every_claim_undecided(slug):
    """No difference, and a spread of twenty times the margin, except of the untrained encoder."""
    study = STUDIES[slug]
    spread = {study.baseline: 0.4, "untrained": 0.001}
    found = judged(study, evidence_of(study, {}, spread=spread, metrics=METRICS))
    assert {one.word for one in found.values()} == {UNDECIDED}


def with_effect(size):
    """Return a study of one claim with a claimed effect, "clip is worse than aimv2"."""
    claims = {"beats-clip-same-data": expect("clip", "worse", than="aimv2", metric=PROBE, effect=size, why="a table")}
    return replace(STUDIES["objective"], claims=claims)


@pytest.mark.parametrize(
    ("effect", "word", "qualification"),
    [
        (0.00, SMALLER, "an effect of 0.05 is ruled out"),
        (0.02, SUPPORTED, "the effect is smaller than the claimed 0.05"),
        (0.05, SUPPORTED, ""),
        (-0.02, CONTRADICTED, ""),
    ],
)
def test_only_a_claimed_effect_can_be_too_small(effect, word, qualification):
    study = with_effect(0.05)
    found = judged(study, evidence_of(study, {"clip": -effect}, spread=0.001, metrics=METRICS))["beats-clip-same-data"]
    assert found.word is word
    assert found.qualifications == ((qualification,) if qualification else ())


@pytest.mark.parametrize(
    ("probe", "loss", "word"),
    [
        (-0.1, 0.5, CONTRADICTED),
        (-0.1, 0.0, SMALLER),  # against by both, and one of them only because the effect is too small
        (0.0, 0.0, SMALLER),
        (0.0, -0.5, UNDECIDED),
    ],
)
def test_claim_that_all_expectations_contradict_together_is_smaller_if_some_are(probe, loss, word):
    claim, than = "prefix-beats-bidirectional-for-captioning", "bidirectional_text"
    expectations = expect("prefix_text", "better", than=than, metric=(PROBE, LOSS), effect=0.05)
    study = replace(STUDIES["encoder_attention"], claims={claim: expectations})
    effects = {("prefix_text", PROBE): probe, ("prefix_text", LOSS): loss}
    assert judged(study, evidence_of(study, effects, spread=0.001, metrics=METRICS))[claim].word is word


def test_margin_of_the_expectation_comes_before_that_of_the_study():
    expectation = expect("alpha_02", "equal", than="alpha_04", metric=LOSS, margin=1.0)
    study = replace(STUDIES["loss_weight"], claims={"alpha-insensitive": expectation})
    evidence = evidence_of(study, {"alpha_02": 0.5}, spread=0.001, metrics=METRICS)
    assert judged(study, evidence)["alpha-insensitive"].word is SUPPORTED


def test_evidence_lists_the_deciding_comparisons():
    found = verdict_on("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): 0.5})
    assert len(found.evidence) == 2, "both differences to alpha = 0.2, and no other"
    first = found.evidence[0]
    assert first.startswith("content_loss, alpha = 0.2 minus alpha = 0.4: +0.")
    # Two claims share 5 %, and the claim's share is shared by its six comparisons: 0.05 / 2 / 6.
    assert "(99.58 %, n = 4, pooled error, covers seeds; margin 0.1)" in first
    assert first.endswith("expected equal, observed worse: contradicted")
    assert found.sensitivity == (f"{PROBE} tells all steps apart", f"{LOSS} tells all steps apart")


def test_evidence_of_slopes_and_ranges_is_in_words():
    (text, own) = verdict_on("no-large-batch", "batch_size", {"clip_batch_200": 0.1, "clip_batch_400": 0.2}).evidence
    assert text.startswith(f"{PROBE}, gain of CLIP per doubling of the batch minus that of AIMv2: +0.1")
    assert "error, covers seeds; margin 0.01, claimed effect 0.006); expected better, observed better" in text
    assert own.endswith("expected not better, observed equivalent: supported")
    found = verdict_on("width-matters-more-than-depth", "decoder_size", WIDTHS)
    assert found.evidence[0].startswith(
        f"{PROBE}, range over the published widths minus range over the published depths"
    )
    assert "95 %, bounds of all contrasts, n = 4" in found.evidence[0]
    assert found.evidence[0].endswith("expected wider, observed wider: supported")
    assert [one.outcome.word for one in found.deciding] == [SUPPORTED, SUPPORTED]
    narrower = verdict_on("width-matters-more-than-depth", "decoder_size", {"depth_067": 0.5})
    assert narrower.evidence[0].endswith("expected wider, observed narrower: contradicted")


def test_support_takes_no_correction_for_the_number_of_expectations():
    found = verdict_on("swiglu-rmsnorm", "norm_ffn", harms("rms_gelu", "layer_swiglu", "layer_gelu"))
    assert all("(95 %, n = 4" in text for text in found.evidence)


def test_control_that_did_not_pass_withholds_the_verdicts_that_use_its_metric():
    study = STUDIES["prefix_ratio"]
    evidence = evidence_of(study, {"positive_control": 1.0, ("positive_control", MASKED): 0.0}, spread=0.0005, shared=0,
                           metrics=METRICS)  # fmt: skip
    found = judged(study, evidence, controls=check_controls(study, evidence))
    assert found["uniform-prefix-length"].word is SUPPORTED
    assert found["prefix-beats-causal"].word is NOT_TESTABLE
    assert found["prefix-beats-causal"].qualifications == ("positive control failed in causal_content_loss",)
    absent = replace(study, controls=())
    found = judged(absent, evidence, controls=check_controls(absent, evidence))
    assert {one.word for one in found.values()} == {NOT_TESTABLE}


def test_metric_that_is_not_sensitive_decides_no_claim():
    study = STUDIES["prefix_ratio"]
    evidence = evidence_of(study, {}, spread=0.0005, metrics=METRICS)
    blind = {MASKED: MetricSensitivity(MASKED, False, "it does not tell half the samples from all")}
    found = judged(study, evidence, sensitivity=sensitive(LOSS) | blind)
    assert found["uniform-prefix-length"].word is SUPPORTED
    assert found["prefix-beats-causal"].word is NOT_TESTABLE
    assert found["prefix-beats-causal"].qualifications == ("it does not tell half the samples from all",)
    unknown = judged(study, evidence, sensitivity={}, scale="tiny")["uniform-prefix-length"]
    assert unknown.word is NOT_TESTABLE
    assert unknown.qualifications == (not_measured(LOSS, "tiny"),)


def test_claim_about_a_metric_that_the_data_cannot_have_is_not_testable():
    study, why = STUDIES["prefix_ratio"], "not applicable to data without scenes"
    evidence = evidence_of(study, {}, spread=0.0005, metrics=METRICS)
    lacking = evidence.metrics["metric"] == MASKED_PROBE
    rows = evidence.metrics[lacking].assign(value=None, evaluation=why)
    evidence = replace(evidence, metrics=evidence.metrics[~lacking], not_applicable=rows)
    controls = check_controls(study, evidence)
    assert {one.metric for one in controls} == {LOSS, MASKED, PROBE}, "there is nothing to control"
    found = judged(study, evidence)
    assert found["prefix-beats-causal-probe"].word is NOT_TESTABLE
    assert found["prefix-beats-causal-probe"].qualifications == (f"{MASKED_PROBE} is {why}",)
    assert found["uniform-prefix-length"].word is SUPPORTED


def test_metrics_that_differ_before_training_are_not_compared():
    """As a probe of an untrained encoder does with and without a mask."""
    study = STUDIES["prefix_ratio"]
    before = {("untrained", MASKED_PROBE): 0.2}
    effects = {("causal", PROBE): -0.3, ("causal_same_patches", PROBE): -0.3}
    found = judged(study, evidence_of(study, effects | before, spread=0.0005, metrics=METRICS))
    verdict = found["prefix-beats-causal-probe"]
    assert verdict.word is NOT_TESTABLE
    assert "probe_object and causal_probe_object differ before training (-0.2" in " ".join(verdict.qualifications)
    assert found["prefix-beats-causal"].word is not NOT_TESTABLE, "the losses do not differ before training"
    spread = {study.baseline: 0.0005, "untrained": 0.4}
    undecided = judged(study, evidence_of(study, effects, spread=spread, metrics=METRICS))["prefix-beats-causal-probe"]
    assert undecided.word is NOT_TESTABLE
    assert "probe_object and causal_probe_object may differ by the margin before" in " ".join(undecided.qualifications)
    small = evidence_of(study, effects | {("untrained", MASKED_PROBE): 0.005}, spread=0.0005, metrics=METRICS)
    assert judged(study, small)["prefix-beats-causal-probe"].word is SUPPORTED, "within the margin of 0.01"
    absent = evidence_of(study, effects, spread=0.0005, metrics=METRICS)
    absent = replace(absent, metrics=absent.metrics[absent.metrics["arm"] != "untrained"])
    verdict = judged(study, absent)["prefix-beats-causal"]
    assert (verdict.word, "not measured on the untrained" in verdict.qualifications[0]) == (NOT_TESTABLE, True)


def test_failed_run_withholds_the_verdicts_that_use_its_arm():
    study = STUDIES["objective"]
    missing = pd.DataFrame([("clip", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    evidence = replace(
        evidence_of(study, {"clip": -0.1, "cappa": -0.1}, spread=0.0005, metrics=METRICS), missing=missing
    )
    found = judged(study, evidence)
    assert found["beats-clip-same-data"].word is NOT_TESTABLE
    assert found["beats-clip-same-data"].qualifications == ("1 of 5 runs of CLIP failed",)
    assert found["beats-cappa-same-data"].word is SUPPORTED


def test_claim_without_runs_is_not_testable():
    nothing = evidence_from([], [])
    for slug in ("prefix_ratio", "decoder_sharing"):
        found = judged(STUDIES[slug], nothing)
        assert {one.word for one in found.values()} == {NOT_TESTABLE}
        assert all("not measured" in text for one in found.values() for text in one.evidence)
