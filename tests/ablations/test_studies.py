"""Every arm of every study takes real steps, and studies have the levels and claims of the paper."""

import math
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expand import adapted, expand
from aimv2.ablations.expectations import DIGITS, READER
from aimv2.ablations.studies.sensitivity import PIXELS_ONLY
from aimv2.config.data_config import SCENE_SOURCES
from aimv2.config.program import replaced, value_at
from aimv2.config.recipes.scales import SCALES, demo, vit_l_2b
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.definitions.metrics import metric_names, not_applicable
from aimv2.definitions.objectives import objective
from aimv2.objectives.build import build
from aimv2.request.resolve import with_attention
from aimv2.training.loop import train
from tests.helpers.marks import exhaustive
from tests.helpers.training import Rows

CHEAPER = {"data_mix": "paper", "sample_efficiency": "siglip_samples_025", "scaling": "size_200_samples_025"}


def conditions():
    """Return every arm and control of every study. Everyday tests take the last arm of a study, or a cheaper one."""
    cases = []
    for study in STUDIES.values():
        everyday = CHEAPER.get(study.slug, list(study.arms)[-1])
        assert everyday in study.arms
        for arm in study.conditions:
            case = pytest.param if arm == everyday else exhaustive
            cases.append(case(study, arm, id=f"{study.slug}-{arm}"))
    return cases


studies = pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)


@pytest.fixture(scope="module")
def base(tiny):
    """The tiny run, which is on scenes, with room for what studies scale down."""
    return replaced(tiny, {"budget.samples": 64, "model.decoder.depth": 3, "evaluation.probe.head_dim": 8})


@pytest.fixture(scope="module")
def prepared():
    """Pairs and tokenizer of a run, prepared once for all arms that read the same."""
    return cache(prepare)


@pytest.mark.parametrize(("study", "arm"), conditions())
def test_every_arm_takes_two_steps_and_can_report_the_primary_metric(study, arm, base, prepared, with_samples):
    if study.slug == "data_mix":
        base = replaced(base, {"data.sources": SCENE_SOURCES})
    config = next(cell.config for cell in expand(study, base, seeds=[0]) if cell.arm == arm)
    config = with_samples(config, 2 * config.budget.batch_size)
    objective(config.objective.name).check(config)
    same = {"weights": None, "captions": "own", "pixels": "own", "dense_fraction": base.data.dense_fraction}
    data = prepared(replace(config.data, **same), config.model.vocab_size)
    record = Rows()
    batches = TrainBatches(config, data.train, data.tokenizer)
    train(config, objective(config.objective.name), build(config), batches, attempt=record)
    assert [row["step"] for row in record.rows] == [0, 1, 2]
    if arm != PIXELS_ONLY:  # a rung of the metrics of the encoder only
        assert study.primary_metric not in not_applicable(objective(config.objective.name), config)


@studies
def test_study_states_question_source_scale_margin_and_claims_about_its_arms(study, tiny):
    assert study.question.endswith("?")
    assert study.source
    assert study.controls == ("null_control", "positive_control")
    expected = [expectation for expectations in study.claims.values() for expectation in expectations]
    assert {arm for e in expected for arm in e.arms} <= set(study.arms)
    assert set(study.claims) <= set(CLAIMS)
    assert all(study.claims.values())
    assert all(e.why for e in expected), "where the expectation comes from"
    assert study.equivalence_margin is None, "margins are measured"
    assert all(e.margin is None for e in expected)
    assert study.scale in SCALES
    scale = "demo" if study.slug.startswith(("prefix_", "sensitivity")) else "laptop"
    assert study.scale == {"data_mix": "laptop_mix"}.get(study.slug, scale)
    assert set(study.needs) <= set(study.claims)
    known = set(metric_names(tiny)) - set(not_applicable(objective("aimv2"), tiny))
    assert {study.primary_metric, *(m for e in expected for m in e.metrics)} <= known


@pytest.mark.parametrize(("slug", "metric"), [("data_mix", READER), ("synthetic_fraction", DIGITS)])
def test_arms_with_other_kinds_of_captions_are_not_judged_by_what_captions_say(slug, metric):
    """Neither by a caption loss nor, as it reads dense captions, by the reader."""
    study, run = STUDIES[slug], with_attention(demo())
    kinds = {arm: study.arms[arm].change(run).data.dense_fraction for arm in study.arms}
    others = {arm for arm in kinds if kinds[arm] != kinds[study.baseline]}
    assert others
    assert study.primary_metric == metric
    claimed = {e.metric for seen in study.claims.values() for e in seen if set(e.arms) & others}
    assert claimed <= {DIGITS}
    assert metric == DIGITS or not others & set(study.expected)


# Weights of equal name and shape that two arms start differently, because an arm changes their initial distribution.
OWN_START = {
    "decoder_depth": {"decoder.pixel_head.weight", "decoder.text_head.weight"},  # variance / (1 + depth)
    "resolution": {"encoder.patch_embed.bias"},  # bound by the values in a patch
    "scaling": {"decoder.image_proj.bias"},  # bound by the encoder's width
    "sensitivity": {"decoder.image_proj.bias"},
    "decoder_size": {"decoder.pixel_head.weight", "decoder.text_head.weight"},
    "sample_efficiency": {"similarity.logit_scale"},
    "objective": {"similarity.logit_scale", "similarity.logit_bias"},  # CLIP's or SigLIP's temperature; the batch
}


@pytest.mark.exhaustive
@studies
def test_arms_start_from_the_same_weights_wherever_name_and_shape_are_equal(study, base):
    base = replaced(base, {"data.sources": SCENE_SOURCES})
    first, num_shared, differ = {}, 0, set()
    for cell in expand(study, base, seeds=[0]):
        if cell.arm == "null_control":  # its seed differs
            continue
        for name, weight in build(cell.config).state_dict().items():
            other = first.setdefault((name, weight.shape), weight)
            num_shared += other is not weight
            if not torch.equal(weight, other):
                differ.add(name)
    assert num_shared > 0
    assert differ == OWN_START.get(study.slug, set())


PAPER = {
    ("decoder_width", "model.decoder.width"): [512, 1024, 1536],
    ("decoder_depth", "model.decoder.depth"): [8, 12, 16],
    ("loss_weight", "objective.pixel_weight"): [0, 0.1, 0.2, 0.4, 0.6, 1, 2],
    ("objective", "budget.batch_size"): [8192, 16_384],
    ("batch_size", "budget.batch_size"): [8192, 16_384, 32_768],
    ("decoder_size", "model.decoder.width"): [512, 836, 1024, 1182, 1536],
    ("decoder_size", "model.decoder.depth"): [8, 12, 16],
    ("sample_efficiency", "budget.samples"): [512_000_000, 1_024_000_000, 2_048_000_000, 4_096_000_000],
    ("resolution", "model.image_px"): [224, 336, 448],
    ("scaling", "model.encoder.width"): [256, 512, 1024, 2048],  # to L and 1B
    ("scaling", "model.encoder.num_heads"): [2, 4, 8, 16],
    ("scaling", "budget.samples"): [512_000_000, 1_024_000_000, 2_048_000_000, 4_096_000_000, 8_192_000_000],
    ("synthetic_fraction", "data.dense_fraction"): [0, 0.33, 0.5, 0.67, 1],
}


@pytest.mark.parametrize(("slug", "path"), PAPER, ids=lambda value: value)
def test_levels_at_the_papers_scale_are_the_papers(slug, path):
    base = with_attention(vit_l_2b())
    study = adapted(STUDIES[slug], base)
    levels = {value_at(cell.config, path) for cell in expand(study, base, seeds=[0]) if cell.arm in study.arms}
    assert sorted(levels) == pytest.approx(PAPER[slug, path])


def arms_of(slug, base):
    return {name: arm.change(base) for name, arm in STUDIES[slug].arms.items()}


def test_forms_of_the_pixel_loss_weigh_the_same_in_expectation():
    """The weight of a patch's error: alpha over the divisor, in units of 1 / images."""
    base = with_attention(demo())
    num_patches = base.model.num_patches
    lengths = np.arange(1, num_patches)  # all equally likely
    expected = base.objective.pixel_weight / (num_patches - lengths).mean()
    weights = {name: arm.objective.pixel_weight for name, arm in arms_of("loss_form", base).items()}
    assert weights["image"] / num_patches == pytest.approx(expected)
    assert weights["image_mean"] == base.objective.pixel_weight
    assert "76.8 at demo" in STUDIES["loss_form"].arms["sum_as_printed"].label, "a sum is the mean with a larger alpha"
    assert base.objective.pixel_weight * base.model.patch_dim == pytest.approx(76.8)


def test_the_trend_over_a_ladder_is_its_slope():
    """A point on a line of slope s over doublings of the width gives s."""
    base = with_attention(vit_l_2b())
    runs = {name: arm.change(base) for name, arm in STUDIES["scaling"].arms.items()}
    claims = STUDIES["scaling"].claims
    sizes, _, ends, _ = claims["scaling-params-probe"]  # each by both readouts
    line = {arm: 2 + 0.1 * math.log2(runs[arm].model.encoder.width) for arm in sizes.arms}
    assert sum(weight * line[arm] for arm, weight in sizes.weights.items()) == pytest.approx(0.1)
    assert {*ends.arms} < {*sizes.arms}
    assert len({runs[arm].budget.samples for arm in sizes.arms}) == 1


@pytest.mark.parametrize("num_sources", [1, 3])
def test_crops_and_targets_are_judged_without_captions_and_crops_with_repeated_scenes(num_sources):
    """What the reason says to type is enough: four epochs or more."""
    needs = STUDIES["crop_scale"].needs["v1-crop-scale"]
    scenes = replaced(demo(), {"data.sources": SCENE_SOURCES[:num_sources]})
    assert "objective.name=image_only" in needs(scenes)
    pixels = replaced(scenes, {"objective.name": "image_only"})
    found = re.search(r"data\.scenes\.num_scenes=(\d+)", needs(pixels))
    few = replaced(pixels, {"data.scenes.num_scenes": int(found[1])})
    assert needs(few) == ""
    assert few.budget.samples >= 4 * int(found[1]) * num_sources
    assert needs(replaced(scenes, {"data.sources": ("/data/own.yaml",)})) == "", "captions of photos stay true"
    targets = STUDIES["loss_form"].needs["v1-normalised-pixels"]
    assert "objective.name=image_only" in targets(demo())
    assert targets(replaced(demo(), {"objective.name": "image_only"})) == ""


def runs_of(slug, base):
    """Return the names of a study's trained runs by arm, of one seed."""
    study = STUDIES[slug]
    return {cell.arm: cell.name for cell in expand(study, base, seeds=[0]) if cell.arm in study.arms}


def test_studies_of_objectives_share_runs():
    base = with_attention(demo())
    rivals, batches, efficiency = (runs_of(slug, base) for slug in ("objective", "batch_size", "sample_efficiency"))
    assert rivals["aimv2"] == batches["aimv2_batch_100"] == efficiency["aimv2_samples_100"]
    assert rivals["clip"] == batches["clip_batch_100"] == efficiency["clip_samples_100"]
    assert rivals["clip_batch_200"] == batches["clip_batch_200"]
    assert rivals["siglip"] == efficiency["siglip_samples_100"]
    assert rivals["caption_prefix"] == efficiency["caption_samples_100"]


def test_widths_with_the_steps_of_depths_have_their_weights_at_the_papers_scale():
    """Weights of a decoder's blocks grow with depth times the square of the width."""
    arms = arms_of("decoder_size", with_attention(vit_l_2b()))
    weights = {name: run.model.decoder.depth * run.model.decoder.width**2 for name, run in arms.items()}
    assert weights["width_082"] / weights["depth_067"] == pytest.approx(1, rel=0.01)
    assert weights["width_115"] / weights["depth_133"] == pytest.approx(1, rel=0.01)


def test_the_recipes_crop_is_the_baseline_where_it_is_one_of_the_bounds():
    assert adapted(STUDIES["crop_scale"], demo()) is STUDIES["crop_scale"], "0.9 on scenes"
    study = adapted(STUDIES["crop_scale"], replaced(demo(), {"augment.min_scale": 0.4}))
    assert (study.baseline, list(study.arms)) == ("area_040", ["area_008", "area_040", "area_100"])
