"""Cells of studies, what cannot run, what is not measured, and overrides that would be lost."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.design import Arm, one_factor, setting
from aimv2.ablations.expand import (
    NULL_SEED,
    adapted,
    announcements,
    check_arms,
    check_effect,
    check_metrics,
    expand,
    off_ratios,
    untrained_names,
    with_actual_ratios,
)
from aimv2.ablations.expectations import CONTENT, DIGITS, PROBE, expect
from aimv2.ablations.request import Request, read_request, write_request
from aimv2.ablations.studies.scaling import SAMPLES
from aimv2.ablations.study import CONTROLS, UNTRAINED, Study, is_untrained, study_overrides
from aimv2.base.errors import UsageError
from aimv2.config.program import differences, replaced
from aimv2.config.recipes.scales import PRESETS, SCALES, demo
from aimv2.data.batches.training import TrainBatches
from aimv2.definitions.metrics import metric_names, not_applicable
from aimv2.definitions.objectives import objective
from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from aimv2.request.resolve import with_attention
from tests.helpers.marks import exhaustive
from tests.helpers.own_data import own_source


def config_of(study, arm, base, *, seed=0):
    return next(cell.config for cell in expand(study, base, seeds=[seed]) if cell.arm == arm)


def test_cells_are_conditions_times_seeds_and_one_untrained_encoder_per_seed(study, tiny):
    cells = expand(study, tiny, seeds=[0, 5])
    assert [(cell.arm, cell.seed) for cell in cells if cell.arm != UNTRAINED] == [
        (a, s) for s in (0, 5) for a in (*study.arms, "null_control", "positive_control")
    ]
    untrained = [cell for cell in cells if cell.arm == UNTRAINED]
    assert [cell.seed for cell in untrained] == [0, 5]
    assert all(cell.config.budget.samples == 0 for cell in untrained)
    assert len({cell.name for cell in cells}) == len(cells)
    assert expand(study, tiny) == expand(study, tiny, arms=list(study.arms), seeds=study.seeds)


@pytest.mark.parametrize("arm", STUDIES["prefix_ratio"].arms)
def test_arms_with_the_same_seed_read_the_same_batches(study, arm, tiny, pairs):
    baseline, other = (config_of(study, name, tiny, seed=3) for name in (study.baseline, arm))
    train_pairs, tokenizer = pairs.train, pairs.tokenizer
    one, two = (TrainBatches(config, train_pairs, tokenizer)[1] for config in (baseline, other))
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.token_BT, two.token_BT)


def test_controls_differ_from_the_baseline_in_seed_or_captions_only(study, tiny):
    baseline, null, positive = (config_of(study, name, tiny, seed=2) for name in (study.baseline, *CONTROLS))
    assert differences(null, baseline) == {"seed": 2 + NULL_SEED}
    assert differences(positive, baseline) == {"data.captions": "shuffled"}


@given(seeds=st.sets(st.integers(0, 5000), min_size=1, max_size=5))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cells_are_distinct_runs_for_any_seeds(study, tiny, seeds):
    cells = [cell for cell in expand(study, tiny, seeds=seeds) if cell.arm != UNTRAINED]
    assert len({cell.name for cell in cells}) == len(cells)
    baseline = {cell.config.seed for cell in cells if cell.arm == study.baseline}
    assert not baseline & {cell.config.seed for cell in cells if cell.arm == "null_control"}


CHANGES = {
    "positions": {"model.encoder.positions": "sincos"},
    "norm": {"model.encoder.norm": "layer"},
    "ffn": {"model.encoder.ffn": "gelu"},
    "deeper": {"model.encoder.depth": 3},
    "order": {"model.patch_order": "random"},
    "smaller": {"model.image_px": 12},
    "attention": {"model.encoder.attention": "bidirectional"},
    "decoder": {"model.decoder.depth": 2, "model.decoder.norm": "layer"},
    "pixels": {"objective": {"name": "image_only"}},
    "law": {"prefix": {"law": "fixed", "fraction": 0.5}},
    "rate": {"optimizer.peak_lr": 3e-4},
    "captions": {"data.dense_fraction": 0.5},
    "samples": {"budget.samples": 32},
}


def features_before_training(config):
    """Return what the encoder gives for one image, of weights as they are before training."""
    encoder = Encoder(config.model)
    init_weights_(encoder, seed=0)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return encoder.eval()(image[..., : config.model.image_px, : config.model.image_px], None)


@given(chosen=st.lists(st.frozensets(st.sampled_from(list(CHANGES)), min_size=1, max_size=3), max_size=4, unique=True))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arms_share_an_untrained_encoder_exactly_if_their_features_are_equal(tiny, chosen):
    arms = {
        f"arm_{number}": setting(str(number), {k: v for name in sorted(names) for k, v in CHANGES[name].items()})
        for number, names in enumerate(chosen)
    }
    named = {"slug": "any", "question": "", "source": "", "primary_metric": "reader_loss"}
    design = one_factor(base=Arm(label="base"), **arms)
    study = Study(design=design, baseline="base", equal="samples", **named)
    cells = expand(study, tiny, seeds=[0])
    configs = {cell.arm: cell.config for cell in cells}
    names, features = untrained_names(study, configs), {}
    for arm, name in names.items():
        own, start = (features_before_training(configs[one]) for one in (arm, name))
        assert torch.equal(own, start), "the shared cell has the arm's encoder"
        features.setdefault(name, own)
    assert set(names.values()) == {arm for arm in configs if is_untrained(arm)}
    values = list(features.values())
    for number, one in enumerate(values):
        for other in values[:number]:
            assert one.shape != other.shape or not torch.equal(one, other), "two cells are two encoders"


def test_untrained_encoders_are_named_by_the_first_arm_of_the_study_among_those_that_run(tiny):
    arms = ["size_100_samples_100", "size_200_samples_200", "size_200_samples_050"]
    cells = expand(STUDIES["scaling"], replaced(tiny, {"budget.samples": 64}), arms=arms, seeds=[0])
    assert [cell.arm for cell in cells][-2:] == [UNTRAINED, "untrained_size_200_samples_050"]


def ladder(sizes):
    """Return the text of each size of the study ``scaling``, by arm."""
    return {f"size_{size}_{samples}": text for size, text in sizes.items() for samples in SAMPLES}


LEVELS = {
    # Levels that whole layers, whole heads and multiples of 256 do not allow, worked out from the recipes' sizes.
    ("demo", "decoder_depth"): {"depth_067": "depth 1 for 2, 0.5 x", "depth_133": "depth 3 for 2, 1.5 x"},
    ("laptop", "scaling"): ladder({"025": "ffn_hidden 12 for 44, 0.273 x", "050": "ffn_hidden 24 for 44, 0.545 x"}),
    # Half of three heads of the probe's width are none: the width is a multiple of theirs.
    ("tiny", "sensitivity"): {
        "width_050": "width 256 for 384, 0.667 x; num_heads 2 for 3, 0.667 x; ffn_hidden 768 for 1024, 0.75 x"
    },
    ("vit_l_2b", "decoder_depth"): {},
    ("vit_l_2b", "decoder_width"): {"width_050": "ffn_hidden 1536 for 2816, 0.545 x"},
}


@pytest.mark.parametrize(("scale", "slug"), LEVELS)
def test_labels_give_the_actual_ratio_where_it_misses_the_target(scale, slug):
    cells = expand(STUDIES[slug], with_attention(SCALES[scale]()), seeds=[0])
    assert off_ratios(STUDIES[slug], cells) == LEVELS[scale, slug]
    labels = {name: arm.label for name, arm in with_actual_ratios(STUDIES[slug], cells).arms.items()}
    for name, arm in STUDIES[slug].arms.items():
        here = LEVELS[scale, slug].get(name)
        assert labels[name] == (f"{arm.label} (here {here})" if here else arm.label)


SCALING_FLOPS = replace(STUDIES["scaling"], equal="flops")


def test_matched_samples_do_not_miss_a_target(tiny):
    cells = expand(SCALING_FLOPS, tiny, arms=["size_100_samples_100", "size_200_samples_050"], seeds=[0])
    assert not any("samples" in words for words in off_ratios(SCALING_FLOPS, cells).values())


STUDY = STUDIES["loss_weight"]  # each of its arms has its own objective.pixel_weight


def cells_of(base):
    return expand(STUDY, base, seeds=[0])


def effect(base, **values):
    """Check these overrides of a base run."""
    changed = {key.replace("__", "."): value for key, value in values.items()}
    typed = {key: f"{key}={value}" for key, value in changed.items()}
    check_effect(typed, replaced(base, changed), base, lambda run: run, cells_of)


def test_an_override_that_every_arm_replaces_is_refused(tiny):
    with pytest.raises(UsageError, match=r"^objective.pixel_weight=0.1 has no effect: every arm of the sweep sets its"):
        effect(tiny, budget__samples=32, objective__pixel_weight=0.1)
    effect(tiny, budget__samples=32)  # reaches the arms
    effect(tiny, objective__pixel_weight=tiny.objective.pixel_weight)  # repeats a default, which is no mistake


def test_an_arm_that_its_objective_cannot_train_is_named(tiny):
    check_arms(cells_of(tiny))
    cell = cells_of(tiny)[0]
    caption = replaced(cell.config, {"objective.name": "caption"})
    with pytest.raises(UsageError, match=f"^arm '{cell.arm}' cannot exist: objective.name=caption has no pixel_weight"):
        check_arms([replace(cell, config=caption)])


@pytest.mark.parametrize(
    ("metric", "objective", "message"),
    [
        ("recal", "aimv2", "unknown sweep.primary_metric 'recal'"),
        ("content_loss", "image_only", "compares content_loss, which is not applicable to objective image_only"),
    ],
)
def test_a_study_of_a_metric_that_its_base_run_does_not_report_is_refused(tiny, metric, objective, message):
    study = replace(STUDY, primary_metric=metric)
    with pytest.raises(UsageError, match=message):
        check_metrics(study, replaced(tiny, {"objective.name": objective}))


SET = "/sets/flowers-102.yaml"
studies = pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)


@pytest.fixture(scope="module")
def own(tiny, tmp_path_factory):
    """A run on two sources of one's own, of 60 pictures each."""
    folder = tmp_path_factory.mktemp("own")
    sources = (own_source(folder, "birds"), own_source(folder, "small-boats"))
    values = {"budget.samples": 64, "model.decoder.depth": 3, "evaluation.probe.head_dim": 8}
    return replaced(tiny, {"data.sources": sources, **values})


def with_sources(run, *names, **values):
    """Return a run on sources of these names, which no test opens."""
    sources = tuple(f"/data/{name}.yaml" for name in names)
    return replaced(run, {"data.sources": sources} | {f"data.{name}": value for name, value in values.items()})


@studies
def test_on_the_built_in_scenes_studies_stay_as_they_are(study):
    assert adapted(study, demo()) is study


@studies
@pytest.mark.parametrize("sets", [(), (SET, "/sets/pets.yaml")], ids=["no set", "two sets"])
def test_every_study_expands_on_own_data_and_has_its_primary_metric(study, sets, own):
    base = replaced(own, {"evaluation.sets": sets})
    fitted = adapted(study, base)
    cells = expand(fitted, base, seeds=[0])
    absent = not_applicable(objective("aimv2"), cells[0].config)
    assert fitted.primary_metric in metric_names(base)
    assert fitted.primary_metric not in absent
    assert {cell.arm for cell in cells} >= {*fitted.arms, *fitted.controls}
    used = {PROBE, DIGITS} if sets else {PROBE}
    assert not used & set(fitted.deciding_metrics)
    if set(study.deciding_metrics) & used:
        assert ("probe_flowers_102" if sets else DIGITS) in fitted.deciding_metrics
    claimed = {m for seen in fitted.claims.values() for one in seen for m in one.metrics}
    assert claimed <= set(metric_names(base))


def test_sentence_names_both_metrics_and_what_would_tell_more(own):
    (sentence,) = announcements(adapted(STUDIES["prefix_ratio"], own))
    assert sentence == (
        "probe_digits takes the place of probe_object, the study's metric on other data; a labelled set of your own"
        " would tell more: evaluation.sets=[FILE.yaml]."
    )
    (sentence,) = announcements(adapted(STUDIES["prefix_ratio"], replaced(own, {"evaluation.sets": (SET,)})))
    assert sentence == "probe_flowers_102 takes the place of probe_object, the study's metric on other data."


def test_nothing_is_said_of_a_metric_that_the_command_line_replaced(own):
    study = adapted(replace(STUDIES["eos"], primary_metric=PROBE), own)  # no claim uses the probe
    assert len(announcements(study)) == 1
    typed = replace(study_overrides(study), primary_metric=CONTENT)
    assert announcements(typed.apply(study)) == []


def test_glyphs_have_no_probe_of_objects_either(tiny):
    base = replaced(tiny, {"data.sources": ("openmoji",)})
    probed = replace(STUDIES["caption_order"], primary_metric=PROBE)
    claimed = expect("text_first", "worse", than="image_first", metric=PROBE)
    study = adapted(replace(probed, claims={"image-first-order": claimed}), base)
    (expected,) = study.claims["image-first-order"]
    assert (study.primary_metric, expected.metric, expected.than_metric) == (DIGITS,) * 3


def weights_of(study, base):
    return {name: arm.change(base).data.weights for name, arm in study.arms.items()}


def test_two_sources_are_compared_with_their_mixture(own):
    study = adapted(STUDIES["data_mix"], own)
    assert study.baseline == "mixture"
    assert weights_of(study, own) == {"mixture": None, "only_birds": (1, 0), "only_small_boats": (0, 1)}
    assert (study.expected, study.claims) == ({}, {}), "the paper says nothing of these sources"


def test_three_sources_are_left_out_one_by_one(tiny):
    base = with_sources(tiny, "a", "b", "c", weights=(2, 1, 5))
    arms = weights_of(adapted(STUDIES["data_mix"], base), base)
    assert arms == {
        "mixture": (2, 1, 5),
        "only_a": (1, 0, 0),
        "only_b": (0, 1, 0),
        "only_c": (0, 0, 1),
        "without_a": (0, 1, 5),
        "without_b": (2, 0, 5),
        "without_c": (2, 1, 0),
    }


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        (["a"], None, "this run trains on one, a; name two or more"),
        (["a", "b"], (0, 1), "this run trains on one, b; name two or more"),
        (["a-b", "a_b"], None, "the sources a-b, a_b need names that differ in letters or digits"),
    ],
)
def test_sources_that_cannot_be_compared_are_refused(tiny, names, weights, message):
    with pytest.raises(UsageError) as refused:
        adapted(STUDIES["data_mix"], with_sources(tiny, *names, weights=weights))
    assert message in str(refused.value)


def test_sources_of_the_paper_have_its_mixture_and_the_public_part_as_arms(tiny):
    base = with_sources(tiny, "dfn", "coyo", "hqitp")
    study = adapted(STUDIES["data_mix"], base)
    shown = {  # percent of the samples: short and dense captions, by source
        name: [
            (round(100 * w / sum(run.data.weights) * (1 - d)), round(100 * w / sum(run.data.weights) * d))
            for w, d in zip(run.data.weights, run.data.dense_fractions, strict=True)
        ]
        for name in ("paper", "public")
        for run in [study.arms[name].change(base)]
    }
    assert shown["paper"] == [(30, 30), (9, 0), (28, 3)], "Table 2"
    assert shown["public"] == [(77, 0), (23, 0), (0, 0)], "30 and 9 of 39"
    assert study.claims == {}, "the arms of single sources have other shares of dense captions"


def test_the_papers_mixture_is_the_baseline_if_the_run_has_it(tiny):
    paper = PRESETS["paper"]
    base = with_sources(tiny, "dfn", "coyo", "hqitp", weights=paper.weights, dense_fractions=paper.dense_fractions)
    study = adapted(STUDIES["data_mix"], base)
    assert study.baseline == "paper"
    assert set(study.expected) == {"only_dfn", "only_coyo", "only_hqitp"}
    claimed = {(one.arm, one.relation, one.than_arm) for one in study.claims["data-mix"]}
    assert claimed == {("only_dfn", "worse", "paper"), ("only_coyo", "worse", "paper")}, "the public sources"
    assert len(expand(study, base, seeds=[0])) == len(study.arms) + 3, "no two arms are one run"


def test_shares_of_dense_captions_need_captions_of_both_kinds(tiny, tmp_path):
    both, short = own_source(tmp_path, "both"), own_source(tmp_path, "alt", kinds=("short",))
    study, base = STUDIES["synthetic_fraction"], replaced(tiny, {"data.sources": (both, short)})
    with pytest.raises(UsageError, match="share of dense captions, and alt has short captions only; a description"):
        adapted(study, replaced(tiny, {"data.sources": (short,)}))
    first, second = announcements(adapted(study, base))
    assert first == "alt has short captions only; the shares of dense captions are those of the other sources."
    assert "evaluation.sets=[FILE.yaml] would tell more" in second
    assert "stand in" not in adapted(study, base).source
    own_shares = replaced(base, {"data.dense_fractions": (0.2, 0.1)})
    levels = [arm.change(own_shares).data.dense_share(0) for arm in adapted(study, own_shares).arms.values()]
    assert levels == [0, 0.33, 0.5, 0.67, 1], "shares of the run's own do not hide the levels"


@pytest.mark.parametrize("slug", ["data_mix", "synthetic_fraction"])
def test_request_is_read_after_the_data_are_gone(slug, tiny, tmp_path):
    sources = (own_source(tmp_path, "both"), own_source(tmp_path, "alt", kinds=("short",)))
    base = replaced(tiny, {"data.sources": sources})
    study = adapted(STUDIES[slug], base)
    request = Request(study=study, cells=expand(study, base, seeds=[0]), arguments=(f"sweep={slug}",))
    write_request(tmp_path, request)
    for source in sources:
        Path(source).unlink()
    read = read_request(tmp_path, request.folder, STUDIES)
    assert read.cells == request.cells
    assert [(name, read.study.label(name)) for name in read.study.arms] == [(n, study.label(n)) for n in study.arms]
    same = ("baseline", "primary_metric", "equivalence_margin", "claims", "expected", "notes", "stand_ins")
    assert [getattr(read.study, name) for name in same] == [getattr(study, name) for name in same]
    assert announcements(read.study) == announcements(study)


@pytest.mark.parametrize(
    ("slug", "values", "more", "message"),
    [
        ("prefix_ratio", {}, {"arms": ["causal", "causal"]}, "must name at least one, and each once"),
        ("prefix_ratio", {}, {"arms": ["uniform"], "seeds": [0, 0]}, "must name at least one, and each once"),
        ("prefix_ratio", {}, {"arms": []}, "must name at least one, and each once"),
        ("prefix_ratio", {}, {"seeds": []}, "must name at least one, and each once"),
        ("prefix_ratio", {}, {"arms": ["casual"]}, "unknown arm 'casual'. Did you mean 'causal'?"),
        ("prefix_ratio", {}, {"arms": ["causal"]}, "sweep.arms=['causal'] leaves out the baseline 'uniform'"),
        ("data_mix", {}, {}, "arm 'paper' cannot exist: it trains on ['material_scenes']"),
        ("decoder_depth", {}, {}, "arms 'depth_067' and 'depth_100' are the same run: the base run is too small"),
        ("loss_form", {"objective.pixel_targets": "raw"}, {}, "or an override sets what one of them changes"),
        exhaustive(
            "scaling_flops",
            {"budget.samples": 640, "evaluation.probe.head_dim": 8},
            {},
            "'size_025_samples_050' are the same run once sweep.equal=flops has changed",
        ),
    ],
)
def test_cells_that_cannot_be_are_refused_with_the_cause(tiny, slug, values, more, message):
    with pytest.raises(UsageError) as refused:
        expand({**STUDIES, "scaling_flops": SCALING_FLOPS}[slug], replaced(tiny, values), **more)
    assert message in str(refused.value)


def test_another_baseline_is_compared_with_itself(study, tiny):
    cells = expand(replace(study, baseline="causal", expected={}), tiny, arms=["causal"], seeds=[0])
    assert [cell.arm for cell in cells] == ["causal", *CONTROLS, UNTRAINED]


@pytest.mark.parametrize(
    ("scale", "digest"),
    [("demo", "41ef8b378038f9f2"), ("laptop_mix", "1ddfb489cb0cc662"), ("vit_l_2b", "20d5c1ca0beb873a")],
)
def test_stored_runs_keep_their_names(scale, digest):
    """All cells of all studies, as they were when this line was written. A new study or arm changes the hash."""
    base = with_attention(SCALES[scale]())
    names = [
        f"{slug} {cell.arm} {cell.seed} {cell.name}"
        for slug, study in STUDIES.items()
        for cell in expand(adapted(study, base), base)
    ]
    assert hashlib.sha256("\n".join(names).encode()).hexdigest()[:16] == digest
