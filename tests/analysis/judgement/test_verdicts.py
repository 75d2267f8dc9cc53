"""Verdicts on every claim, from chosen numbers (``ablations/claims.py`` has the claims in words)."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import FILE
from aimv2.ablations.expectations import DIGITS, INK, PROBE, READER, expect
from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.judgement.rules import Word, alone
from aimv2.analysis.judgement.sensitivity import NO_SENSITIVITY, MetricSensitivity, SampleCurve
from aimv2.analysis.judgement.verdicts import primary_comparisons, verdicts
from aimv2.analysis.judgement.withheld import Reasons, check_controls
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from tests.helpers.evidence import evidence_from, evidence_of, passed_controls, sensitive
from tests.helpers.specimen import STUDY

LOSS = "content_loss"
MASKED = "causal_content_loss"
MASKED_PROBE = f"causal_{PROBE}"
METRICS = (READER, INK, LOSS, MASKED, PROBE, MASKED_PROBE, DIGITS)
SUPPORTED, CONTRADICTED, SMALLER = Word.SUPPORTED, Word.CONTRADICTED, Word.SMALLER
NEGLIGIBLE, UNDECIDED, NOT_TESTABLE = Word.NEGLIGIBLE, Word.UNDECIDED, Word.NOT_TESTABLE
# Runs that have the mechanism of claims about training without captions, on few scenes.
PIXELS_ONLY = replaced(demo(), {"objective.name": "image_only", "data.scenes.num_scenes": 500})
CONFIGS = {"crop_scale": PIXELS_ONLY, "loss_form": PIXELS_ONLY}


def judged(study, evidence, **changed):
    """Return verdicts with controls that passed, metrics that are sensitive, and a run with the claims' mechanisms."""
    config = changed.pop("config", CONFIGS.get(study.slug, demo()))
    parts = {"controls": passed_controls(study), "sensitivity": sensitive(*METRICS)}
    return verdicts(Reasons(study, evidence, **parts | changed), config)


def in_both(effects):
    """Return effects on the reader's loss with the same on the second readout, an accuracy."""
    of_reader = {key[0]: size for key, size in effects.items() if key[1] == READER}
    of_all = {arm: size for arm, size in effects.items() if isinstance(arm, str)}
    return {(arm, INK): -size for arm, size in (of_all | of_reader).items()} | effects


def verdict_on(claim, slug, effects, spread=0.0002):
    study = STUDIES[slug].with_margins({INK: 0.1})  # that of the reader by convention
    return judged(study, evidence_of(study, in_both(effects), spread=spread, metrics=METRICS))[claim]


def level_of_a_claim():
    """Return the level of a claim: an equal share of 5 % for each claim that studies judge."""
    return 1 - 0.05 / FILE.read_text().count("\n  studies: [")


def harms(*arms):
    """Return effects that are worse in losses and accuracies."""
    return {(arm, metric): -0.5 if "probe" in metric else 0.5 for arm in arms for metric in METRICS}


def lead(*sizes):
    """Return effects in which AIMv2 leads captioning by these sizes, at a quarter of the samples to twice as many."""
    return {f"aimv2_samples_{name}": -size for name, size in zip(("025", "050", "100", "200"), sizes, strict=True)}


def gains(**per_doubling):
    """Return effects in which an objective gains so much with every doubling of the batch."""
    return {
        f"{name}_batch_{ratio}00": -gain * doublings
        for name, gain in per_doubling.items()
        for ratio, doublings in ((2, 1), (4, 2))
    }


BETTER_RIVALS = {f"{rival}_samples_{samples}": -0.2 for rival in ("clip", "siglip") for samples in (100, 200)}
WIDTHS = {"width_050": 0.2, "width_150": -0.1, "width_082": 0.1}


CASES = [
    # claim, study, effects (losses, such as the reader's, fall and accuracies rise where an arm is better), verdict
    ("alpha-insensitive", "loss_weight", {}, SUPPORTED),
    ("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): 4}, CONTRADICTED),
    ("alpha-insensitive", "loss_weight", {("alpha_06", READER): 0.2}, CONTRADICTED),
    ("alpha-insensitive", "loss_weight", {("alpha_06", READER): 0.05}, SUPPORTED),  # detected, within the margin
    ("alpha-insensitive", "loss_weight", {("alpha_06", READER): 0.10}, UNDECIDED),
    ("alpha-insensitive", "loss_weight", {"alpha_00": 4, "alpha_20": -4}, SUPPORTED),  # outside 0.2 to 0.6
    ("high-res-adaptation", "high_res_adaptation", {("same_size", READER): 0.02}, SUPPORTED),
    ("high-res-adaptation", "high_res_adaptation", {("same_size", READER): -0.02}, CONTRADICTED),
    ("zero-weight-decay", "high_res_adaptation", {("weight_decay", READER): 0.02}, SUPPORTED),
    ("zero-weight-decay", "high_res_adaptation", {("weight_decay", READER): -0.02}, CONTRADICTED),
    ("v1-normalised-pixels", "loss_form", {("raw", READER): 0.1}, SUPPORTED),
    ("v1-normalised-pixels", "loss_form", {("raw", READER): -0.1}, CONTRADICTED),
    *(
        ("both-losses-beat-text-only", "loss_weight", {("alpha_04", READER): effect}, word)
        for effect, word in ((-0.1, SUPPORTED), (-0.004, SUPPORTED), (0.0, NEGLIGIBLE), (0.1, CONTRADICTED))
    ),
    # The readouts must agree.
    ("both-losses-beat-text-only", "loss_weight", {("alpha_04", READER): -0.1, ("alpha_04", INK): 0.0}, UNDECIDED),
    ("both-losses-beat-text-only", "loss_weight", {("alpha_04", READER): -0.1, ("alpha_04", INK): -0.1}, UNDECIDED),
    ("both-losses-beat-image-only", "objective", {("image_only", READER): 0.2}, SUPPORTED),
    ("both-losses-beat-image-only", "objective", {("image_only", READER): 0.05}, SMALLER),  # within the margin
    ("both-losses-beat-image-only", "objective", {("image_only", READER): 0.1}, UNDECIDED),
    ("both-losses-beat-image-only", "objective", {("image_only", READER): -0.1}, CONTRADICTED),
    *(
        ("prefix-beats-bidirectional-for-captioning", "encoder_attention", effects, word)
        for arm in ("prefix_text",)
        for effects, word in (
            ({(arm, READER): -0.1, (arm, LOSS): -0.1}, SUPPORTED),
            ({(arm, READER): -0.1, (arm, LOSS): 0.1}, UNDECIDED),  # contradicted by both only
            ({(arm, READER): 0.1, (arm, LOSS): 0.1}, CONTRADICTED),
            ({}, NEGLIGIBLE),
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
    ("prefix-beats-causal-probe", "prefix_ratio", {("causal", PROBE): 0.1}, CONTRADICTED),
    ("prefix-beats-causal-probe", "prefix_ratio", {("causal", MASKED_PROBE): 0.1}, CONTRADICTED),
    ("uniform-prefix-length", "prefix_distribution", {"causal": 0.5}, SUPPORTED),
    ("uniform-prefix-length", "prefix_distribution", {"mixed_25": -0.05}, SUPPORTED),  # better, within the margin
    ("uniform-prefix-length", "prefix_distribution", {"mixed_25": -0.1}, UNDECIDED),
    *(  # any one of its rivals
        ("uniform-prefix-length", "prefix_distribution", {rival: -0.2}, CONTRADICTED)
        for rival in STUDIES["prefix_distribution"].arms
        if rival != "uniform"
    ),
    ("decoder-width-optimum", "decoder_width", {"width_050": 0.1, "width_150": 0.1}, SUPPORTED),
    ("decoder-width-optimum", "decoder_width", {"width_050": 0.1, "width_150": -0.1}, CONTRADICTED),  # monotone
    ("decoder-width-optimum", "decoder_width", {"width_050": 0.1}, NEGLIGIBLE),
    ("decoder-depth-optimum", "decoder_depth", {("depth_067", READER): 0.1}, SUPPORTED),
    (
        "decoder-depth-optimum",
        "decoder_depth",
        {("depth_067", READER): 0.1, ("depth_133", READER): -0.05},
        SUPPORTED,  # better, within the margin
    ),
    ("decoder-depth-optimum", "decoder_depth", {("depth_067", READER): 0.1, ("depth_133", READER): -0.2}, CONTRADICTED),
    ("joint-equals-separate-decoder", "decoder_sharing", {}, SUPPORTED),
    ("joint-equals-separate-decoder", "decoder_sharing", {("separate", READER): -1}, CONTRADICTED),
    ("swiglu-rmsnorm", "norm_ffn", harms("rms_gelu", "layer_swiglu", "layer_gelu"), SUPPORTED),
    ("swiglu-rmsnorm", "norm_ffn", harms("rms_gelu", "layer_gelu"), NEGLIGIBLE),
    ("swiglu-rmsnorm", "norm_ffn", {("layer_swiglu", READER): -0.1}, CONTRADICTED),
    ("beats-clip-same-data", "objective", {"clip": 0.1, "clip_batch_200": 0.1}, SUPPORTED),
    ("beats-clip-same-data", "objective", {"clip": 0.1, "clip_batch_200": -0.1}, CONTRADICTED),
    ("beats-clip-same-data", "objective", {"clip": 0.1}, NEGLIGIBLE),
    ("beats-cappa-same-data", "objective", {"cappa": 0.1}, SUPPORTED),
    ("beats-cappa-same-data", "objective", {"cappa": -0.1}, CONTRADICTED),
    (
        "scaling-params-probe",
        "scaling",
        {f"size_{name}_samples_400": gain for name, gain in (("050", -0.2), ("100", -0.1), ("200", -0.3))},
        SUPPORTED,  # a dip on the way is still a rise
    ),
    (
        "scaling-params-probe",
        "scaling",
        {f"size_{name}_samples_400": loss for name, loss in (("050", 0.1), ("100", 0.2), ("200", 0.3))},
        CONTRADICTED,
    ),
    ("scaling-resolution", "resolution", {"image_150": -0.1, "image_200": -0.2}, SUPPORTED),
    ("scaling-resolution", "resolution", {"image_200": 0.1}, CONTRADICTED),
    ("data-mix", "data_mix", {"material": 0.1, "fontawesome": 0.1}, SUPPORTED),
    ("data-mix", "data_mix", {"material": 0.1, "fontawesome": -0.1}, CONTRADICTED),
    ("synthetic-captions", "synthetic_fraction", {"synthetic_000": -0.1, "synthetic_100": -0.1}, SUPPORTED),
    ("synthetic-captions", "synthetic_fraction", {"synthetic_000": 0.1}, CONTRADICTED),
    ("synthetic-captions", "synthetic_fraction", {"synthetic_000": -0.1}, NEGLIGIBLE),
    ("v1-raster-order", "patch_order", {"spiral": 0.1, "random": 0.1}, SUPPORTED),
    ("v1-raster-order", "patch_order", {"spiral": 0.1}, NEGLIGIBLE),
    ("v1-raster-order", "patch_order", {"spiral": 0.1, "random": -0.1}, CONTRADICTED),
    ("v1-crop-scale", "crop_scale", {"area_008": 0.1, "area_100": 0.2}, SUPPORTED),
    ("v1-crop-scale", "crop_scale", {"area_008": 0.1, "area_100": -0.1}, CONTRADICTED),
    ("no-large-batch", "batch_size", gains(clip=0.1), SUPPORTED),
    ("no-large-batch", "batch_size", gains(clip=0.1, aimv2=0.05), SUPPORTED),  # AIMv2 gains, within the margin
    ("no-large-batch", "batch_size", gains(clip=0.1, aimv2=0.2), CONTRADICTED),
    ("no-large-batch", "batch_size", gains(clip=0.4, aimv2=0.2), CONTRADICTED),  # less, but more than the margin
    ("width-matters-more-than-depth", "decoder_size", WIDTHS, SUPPORTED),
    ("width-matters-more-than-depth", "decoder_size", {"width_050": 0.2}, NEGLIGIBLE),  # with other steps in weights
    ("width-matters-more-than-depth", "decoder_size", WIDTHS | {"depth_067": 0.4}, CONTRADICTED),
    ("width-matters-more-than-depth", "decoder_size", WIDTHS | {"depth_067": 0.15}, CONTRADICTED),  # per weight
    ("aimv2-vs-cap-at-every-scale", "sample_efficiency", lead(0.1, 0.2, 0.3, 0.4), SUPPORTED),
    ("aimv2-vs-cap-at-every-scale", "sample_efficiency", lead(0.1, 0.1, 0.1, 0.1), NEGLIGIBLE),  # it does not grow
    ("aimv2-vs-cap-at-every-scale", "sample_efficiency", lead(0.4, 0.3, 0.2, 0.1), CONTRADICTED),
    ("aimv2-vs-cap-at-every-scale", "sample_efficiency", lead(-0.1, 0.2, 0.3, 0.4), CONTRADICTED),
    ("fewer-samples-than-contrastive", "sample_efficiency", {}, SUPPORTED),  # as good is enough
    ("fewer-samples-than-contrastive", "sample_efficiency", {"clip_samples_100": -0.2}, UNDECIDED),  # at one place
    ("fewer-samples-than-contrastive", "sample_efficiency", BETTER_RIVALS, CONTRADICTED),
]


@pytest.mark.parametrize(("claim", "slug", "effects", "word"), CASES)
def test_verdict_follows_from_the_effects(claim, slug, effects, word):
    assert verdict_on(claim, slug, effects).word is word


def test_every_claim_of_every_study_has_cases_for_and_against_it():
    by_study = {(claim, slug) for slug, study in STUDIES.items() for claim in study.claims}
    assert {(claim, slug) for claim, slug, _, _ in CASES} == by_study
    for own in by_study:
        found = {word for claim, slug, _, word in CASES if (claim, slug) == own}
        assert {SUPPORTED, CONTRADICTED} <= found, own


@pytest.mark.parametrize("slug", [slug for slug, study in STUDIES.items() if study.claims])
def test_wide_intervals_leave_every_claim_undecided(slug):
    study = STUDIES[slug]
    spread = {study.baseline: 0.4, "untrained": 0.001}
    found = judged(study, evidence_of(study, {}, spread=spread, metrics=METRICS))
    assert {one.word for one in found.values()} == {UNDECIDED}


@pytest.mark.parametrize(
    ("claim", "slug", "values", "missing"),
    [
        ("v1-crop-scale", "crop_scale", {}, "make captions of scenes false; type objective.name=image_only"),
        ("v1-crop-scale", "crop_scale", {"objective.name": "image_only"}, "type data.scenes.num_scenes="),
        ("v1-normalised-pixels", "loss_form", {}, "the weight of the pixel loss; type objective.name=image_only"),
    ],
)
def test_runs_without_the_mechanism_of_a_claim_do_not_judge_it(claim, slug, values, missing):
    """Whatever they show; and what the reason says to type makes them judge it."""
    study, config = STUDIES[slug], replaced(demo(), values)
    effects = in_both({"area_008": -1, "area_100": -1, "raw": -1})
    evidence = evidence_of(study, effects, spread=0.0002, metrics=METRICS)
    found = judged(study, evidence, config=config)[claim]
    assert found.word is NOT_TESTABLE
    assert missing in " ".join(found.qualifications)
    for _ in range(2):  # the reason names one value at a time
        for path, value in re.findall(
            r"type ([\w.]+)=(\w+)", " ".join(judged(study, evidence, config=config)[claim].qualifications)
        ):
            config = replaced(config, {path: int(value) if value.isdigit() else value})
    assert judged(study, evidence, config=config)[claim].word is CONTRADICTED


@pytest.mark.parametrize(
    ("reader", "loss", "word"),
    [
        (0.1, 0.5, CONTRADICTED),
        (0.1, 0.0, NEGLIGIBLE),  # against by both, and one of them only because there is no effect
        (0.0, 0.0, NEGLIGIBLE),
        (0.0, -0.5, UNDECIDED),
    ],
)
def test_claim_that_all_expectations_contradict_together_is_negligible_if_some_are(reader, loss, word):
    claim, than = "prefix-beats-bidirectional-for-captioning", "bidirectional_text"
    expectations = expect("prefix_text", "better", than=than, metric=(READER, LOSS))
    study = replace(STUDIES["encoder_attention"], claims={claim: expectations})
    effects = in_both({("prefix_text", READER): reader, ("prefix_text", LOSS): loss})
    study = study.with_margins({INK: 0.1})
    assert judged(study, evidence_of(study, effects, spread=0.001, metrics=METRICS))[claim].word is word


@pytest.mark.parametrize(("num_seeds", "hangs"), [(4, ["it hangs on each of the seeds 0, 1, 2, 3"]), (16, [])])
def test_verdict_hangs_on_the_seeds_without_which_it_is_another(num_seeds, hangs):
    study, effects = STUDIES["loss_weight"].with_margins({INK: 0.1}), in_both({("alpha_04", READER): -0.0025})
    evidence = evidence_of(study, effects, spread=0.0002, metrics=METRICS, seeds=range(num_seeds))
    found = judged(study, evidence)["both-losses-beat-text-only"]
    assert found.word is SUPPORTED
    assert [text for text in found.qualifications if "hangs" in text] == hangs
    assert ("trimmed mean -0.00" in found.evidence[0]) == (num_seeds >= 8)


def test_older_runs_are_not_decided_by_the_rule_of_negligible_effects():
    study = STUDIES["loss_weight"].with_margins({INK: 0.1})
    evidence = evidence_of(study, {}, spread=0.0002, metrics=METRICS)
    claim = "both-losses-beat-text-only"
    assert judged(study, evidence)[claim].word is NEGLIGIBLE
    for runs in (evidence.runs.assign(began="2020-01-01"), evidence.runs.drop(columns="began")):
        found = judged(study, replace(evidence, runs=runs))[claim]
        assert (found.word, "fresh seeds decide" in found.qualifications[0]) == (UNDECIDED, True)
        assert verdicts_alone(study, replace(evidence, runs=runs))[claim].comparisons == found.comparisons
    assert verdicts_alone(study, evidence)[claim].comparisons[0].difference.level == 0.95


def verdicts_alone(study, evidence):
    reasons = Reasons(study, evidence, controls=passed_controls(study), sensitivity=sensitive(*METRICS))
    return verdicts(reasons, demo(), share=alone)


def test_evidence_lists_the_comparisons_that_decide_before_the_others():
    found = verdict_on("alpha-insensitive", "loss_weight", {("alpha_02", LOSS): 0.5})
    assert len(found.deciding) == 2, "both differences to alpha = 0.2, and no other"
    assert len(found.evidence) == len(found.comparisons) == 9, "three of them by both readouts"
    assert [one.outcome.word.is_against for one in found.comparisons] == [True] * 2 + [False] * 7
    assert all(text.endswith("supported") for text in found.evidence[2:])
    assert {one.difference.level for one in found.comparisons} == {found.deciding[0].difference.level}
    first = found.evidence[0]
    assert first.startswith("content_loss, alpha = 0.2 minus alpha = 0.4: +0.")
    # The claim's share of 5 % is shared by its six comparisons, each of which contradicts it.
    level = 1 - (1 - level_of_a_claim()) / 6
    assert f"({100 * level:.2f} %, n = 4, own error, covers seeds; margin 0.1)" in first
    assert first.endswith("expected equal, observed worse: contradicted")
    assert found.sensitivity == tuple(f"{metric} sees all rungs" for metric in (READER, INK, LOSS))


def test_measured_margins_take_the_place_of_conventions():
    """With a curve on which a tenth of the samples is worth 0.0152, a harm of 0.05 is no longer within the margin."""
    study = STUDIES["loss_weight"]
    evidence = evidence_of(study, in_both({("alpha_06", READER): 0.05}), spread=0.0002, metrics=METRICS)
    margin = SampleCurve({0.5: 0.1}).margin
    found = judged(study.with_margins({READER: margin, INK: margin}), evidence)["alpha-insensitive"]
    assert found.word is CONTRADICTED
    assert "margin 0.0152)" in found.evidence[0]


def test_control_that_did_not_pass_withholds_the_verdicts_that_use_its_metric():
    study = STUDIES["prefix_ratio"]
    harm = {"positive_control": 1.0, ("positive_control", MASKED): 0.0, ("positive_control", PROBE): -1.0,
            ("positive_control", MASKED_PROBE): -1.0, ("causal", PROBE): -0.1}  # fmt: skip
    evidence = evidence_of(study, harm, spread=0.0005, shared=0, metrics=METRICS)
    found = judged(study, evidence, controls=check_controls(study, evidence))
    assert found["prefix-beats-causal-probe"].word is SUPPORTED
    assert found["prefix-beats-causal"].word is NOT_TESTABLE
    assert found["prefix-beats-causal"].qualifications == ("positive control failed in causal_content_loss",)
    absent = replace(study, controls=())
    found = judged(absent, evidence, controls=check_controls(absent, evidence))
    assert {one.word for one in found.values()} == {NOT_TESTABLE}


def test_metric_that_is_not_sensitive_decides_no_claim():
    study = STUDIES["prefix_ratio"]
    evidence = evidence_of(study, {("causal", PROBE): -0.1}, spread=0.0005, metrics=METRICS)
    blind = {MASKED: MetricSensitivity(MASKED, "it does not get worse with fewer samples", is_blind=True)}
    found = judged(study, evidence, sensitivity=sensitive(LOSS, PROBE, MASKED_PROBE) | blind)
    assert found["prefix-beats-causal-probe"].word is SUPPORTED
    assert found["prefix-beats-causal"].word is NOT_TESTABLE
    assert found["prefix-beats-causal"].qualifications == ("it does not get worse with fewer samples",)
    unknown = judged(study, evidence, sensitivity={})["prefix-beats-causal"]
    assert (unknown.word, unknown.qualifications) == (NOT_TESTABLE, (NO_SENSITIVITY,)), "once, not by metric"


def test_metric_decides_claims_of_the_kinds_whose_rungs_it_sees():
    """Of width and depth, as the claim is about both; and of words, whatever it misses of depth."""
    unseen = sensitive(INK) | {
        READER: MetricSensitivity(READER, "sees some", unseen={"depth": "it does not see half the depth"})
    }
    study = STUDIES["decoder_size"]
    evidence = evidence_of(study, WIDTHS, spread=0.0002, metrics=METRICS)
    found = judged(study, evidence, sensitivity=unseen)["width-matters-more-than-depth"]
    assert (found.word, found.qualifications) == (NOT_TESTABLE, ("it does not see half the depth",))
    study = STUDIES["objective"]
    evidence = evidence_of(study, in_both({"cappa": 0.1}), spread=0.0002, metrics=METRICS)
    assert judged(study, evidence, sensitivity=unseen)["beats-cappa-same-data"].word is SUPPORTED


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
    assert found["prefix-without-mask-is-best"].word is SUPPORTED


def test_metrics_that_differ_before_training_are_not_compared():
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
    sentence = "probe_object and causal_probe_object of the untrained encoder differ by"
    assert sentence in " ".join(undecided.qualifications)
    small = evidence_of(study, effects | {("untrained", MASKED_PROBE): 0.005}, spread=0.0005, metrics=METRICS)
    assert judged(study, small)["prefix-beats-causal-probe"].word is SUPPORTED, "within the margin of 0.01"
    absent = evidence_of(study, effects, spread=0.0005, metrics=METRICS)
    absent = replace(absent, metrics=absent.metrics[absent.metrics["arm"] != "untrained"])
    verdict = judged(study, absent)["prefix-beats-causal"]
    assert (verdict.word, "not measured on the untrained" in verdict.qualifications[0]) == (NOT_TESTABLE, True)


def test_failed_run_withholds_the_verdicts_that_use_its_arm():
    study = STUDIES["objective"]
    missing = pd.DataFrame([("clip", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    effects = in_both({"clip": 0.1, "cappa": 0.1})
    evidence = replace(evidence_of(study, effects, spread=0.0005, metrics=METRICS), missing=missing)
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


def test_only_requested_arms_are_compared(cells, evidence):
    some = [cell for cell in cells if cell.arm in ("uniform", "causal", "null_control")]
    (comparison,) = primary_comparisons(Reasons(STUDY, evidence), some).values()
    assert comparison.difference.level == pytest.approx(0.95)


def test_expectation_is_judged_as_claims_are(cells):
    study = replace(STUDY, expected={"causal": "worse", "fixed_25": "equal", "fixed_50": "better"})
    effects = {"causal": 0.5, "fixed_25": 0.001, "fixed_50": 0.5}
    comparisons = primary_comparisons(Reasons(study, evidence_of(study, effects, spread=0.001)), cells)
    words = {arm: compared.outcome and compared.outcome.word for arm, compared in comparisons.items()}
    assert words == {
        "causal": Word.SUPPORTED,
        "fixed_25": Word.SUPPORTED,
        "fixed_50": Word.CONTRADICTED,
        "fixed_75": None,
    }


def test_arm_with_a_failed_run_is_withheld_and_an_unfinished_one_is_not(cells):
    some = evidence_of(STUDY, {}, spread=0.01)
    rows = [("causal", 4, "", "not finite", True), ("fixed_25", 4, "", "not run yet", False)]
    missing = pd.DataFrame(rows, columns=MISSING_COLUMNS)
    comparisons = primary_comparisons(Reasons(STUDY, replace(some, missing=missing)), cells)
    assert comparisons["causal"].withheld == "1 of 5 runs of causal (prefix of 1 patch) failed"
    assert [arm for arm, compared in comparisons.items() if compared.withheld] == ["causal"]
    baseline = pd.DataFrame([("uniform", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    without = Reasons(STUDY, replace(some, missing=baseline))
    assert all(comparison.withheld for comparison in primary_comparisons(without, cells).values())
