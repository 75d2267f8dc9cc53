"""Cells: pairing, controls, refusals, and the ratios that arms miss."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.design import Arm, one_factor, setting
from aimv2.ablations.expand import NULL_SEED, expand, off_ratios, untrained_names, with_actual_ratios
from aimv2.ablations.studies.scaling import SAMPLES
from aimv2.ablations.study import CONTROLS, UNTRAINED, Study, is_untrained, untrained_of
from aimv2.base.errors import UsageError
from aimv2.config.paths import differences, replaced
from aimv2.config.recipes.scales import SCALES
from aimv2.data.batches.training import TrainBatches
from aimv2.model.encoder import Encoder
from aimv2.model.initial import init_weights_
from aimv2.request.resolve import with_attention
from aimv2.run.execute import execute
from aimv2.runs.record import RunFolder
from tests.helpers.marks import exhaustive


def config_of(study, arm, base, *, seed=0):
    return next(cell.config for cell in expand(study, base, seeds=[seed]) if cell.arm == arm)


def with_arms(study, arms):
    return replace(study, design=replace(study.design, arms={**study.arms, **arms}))


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


@pytest.mark.parametrize("arm", ["positive_control", exhaustive(UNTRAINED)])
def test_executed_cell_reports_the_primary_metric(study, arm, tiny, tmp_path):
    cell = next(cell for cell in expand(study, tiny, seeds=[0]) if cell.arm == arm)
    run = RunFolder(tmp_path, cell.name)
    assert execute(run.acquire(cell.config), cell.config) is None
    assert study.primary_metric in run.result()["metrics"]


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


@pytest.mark.exhaustive
def test_null_control_shares_no_seed_with_1200_seeds(study, tiny):
    cells = expand(study, tiny, arms=["uniform"], seeds=range(1200))
    assert {cell.config.seed for cell in cells if cell.arm == "null_control"} == set(range(2000, 3200))


def test_studies_that_request_the_same_run_share_it(study, tiny):
    other = Study(
        slug="other",
        question="Is it shared?",
        source="none",
        design=one_factor(plain=Arm(label="as it is")),
        baseline="plain",
        primary_metric="caption_loss",
        equivalence_margin=0.1,
    )
    names = {cell.arm: cell.name for cell in expand(study, tiny, seeds=[0])}
    assert {cell.arm: cell.name for cell in expand(other, tiny, seeds=[0])} == {
        "plain": names["uniform"],
        **{name: names[name] for name in ("null_control", "positive_control", UNTRAINED)},
    }


def test_another_architecture_has_an_untrained_encoder_of_its_own(study, tiny):
    deeper = with_arms(study, {"deeper": setting("deeper", {"model.encoder.depth": 3})})
    assert config_of(deeper, UNTRAINED, tiny) == config_of(study, UNTRAINED, tiny), "the baseline's stays"
    own = config_of(deeper, "untrained_deeper", tiny, seed=7)
    assert own == replace(config_of(deeper, "deeper", tiny).untrained(), seed=7)
    cells = expand(deeper, tiny, seeds=[3, 4])
    assert [(cell.arm, cell.seed) for cell in cells[-4:]] == [
        (name, seed) for seed in (3, 4) for name in (UNTRAINED, "untrained_deeper")
    ]


ARCHITECTURES = {
    "positions": ["sincos"],
    "norm_ffn": ["rms_gelu", "layer_swiglu", "layer_gelu"],
    "patch_order": ["spiral", "random"],  # what reads their features reads them in another order
    "scaling": [f"size_{size}_samples_025" for size in ("025", "050", "200")],
    "sensitivity": ["depth_050", "depth_200", "width_050", "width_200"],
    "resolution": ["image_150", "image_200", "patch_050", "patch_200"],
    "high_res_adaptation": ["same_size"],
}


@pytest.mark.parametrize("slug", STUDIES)
def test_untrained_encoders_of_a_study_are_its_architectures(slug):
    """Arms that differ in decoder, objective, data shown in training, or optimizer have the baseline's."""
    cells = expand(STUDIES[slug], with_attention(SCALES["demo"]()), seeds=[0])
    own = [cell.arm for cell in cells if is_untrained(cell.arm)]
    assert own == [UNTRAINED, *map(untrained_of, ARCHITECTURES.get(slug, []))]


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
    study = Study(
        slug="any",
        question="",
        source="",
        design=one_factor(base=Arm(label="base"), **arms),
        baseline="base",
        primary_metric="reader_loss",
        equal="samples",
    )
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


@pytest.mark.parametrize(
    ("arms", "seeds"), [(["causal", "causal"], [0]), (["causal"], [0, 0]), ([], [0]), (["causal"], [])]
)
def test_empty_and_repeated_arms_and_seeds_are_refused(study, tiny, arms, seeds):
    with pytest.raises(UsageError, match="must name at least one, and each once"):
        expand(study, tiny, arms=arms, seeds=seeds)


def test_unknown_arm_is_refused_with_a_suggestion(study, tiny):
    with pytest.raises(UsageError, match=r"unknown arm 'casual'. Did you mean 'causal'\?"):
        expand(study, tiny, arms=["casual"])


def test_arm_that_cannot_be_built_is_refused_with_the_cause(study, tiny):
    broken = with_arms(study, {"none": Arm(label="no prefix", change=lambda run: replace(run, seed=-1))})
    with pytest.raises(UsageError, match="arm 'none' cannot exist: "):
        expand(broken, tiny)
    with pytest.raises(UsageError, match=r"arm 'paper' cannot exist: it trains on \['material_scenes'\]"):
        expand(STUDIES["data_mix"], tiny)


def test_equal_arms_are_refused_with_the_cause(study, tiny):
    twice = with_arms(study, {"again": study.arms["causal"]})
    with pytest.raises(UsageError, match="arms 'causal' and 'again' are the same run: the base run is too small"):
        expand(twice, tiny)
    with pytest.raises(UsageError, match="arms 'depth_067' and 'depth_100' are the same run: the base run is too sma"):
        expand(STUDIES["decoder_depth"], tiny)  # which has one block
    raw = replaced(tiny, {"objective.pixel_targets": "raw"})
    with pytest.raises(UsageError, match=r"'released' and 'raw' are the same run: .* or an override sets what one"):
        expand(STUDIES["loss_form"], raw)


@pytest.mark.exhaustive
def test_arms_made_equal_by_matching_are_refused_with_the_cause(tiny):
    scaling = replace(STUDIES["scaling"], equal="flops")
    with pytest.raises(
        UsageError, match=r"'size_025_samples_050' are the same run once sweep\.equal=flops has changed"
    ):
        expand(scaling, replaced(tiny, {"budget.samples": 640, "evaluation.probe.head_dim": 8}))


def test_arms_without_the_baseline_are_refused(study, tiny):
    with pytest.raises(UsageError, match=r"sweep\.arms=\['causal'\] leaves out the baseline 'uniform'"):
        expand(study, tiny, arms=["causal"])
    cells = expand(replace(study, baseline="causal", expected={}), tiny, arms=["causal"], seeds=[0])
    assert [cell.arm for cell in cells] == ["causal", *CONTROLS, UNTRAINED]


def ladder(sizes):
    """Return the text of each size of the study ``scaling``, by arm."""
    return {f"size_{size}_{samples}": text for size, text in sizes.items() for samples in SAMPLES}


LEVELS = {
    # Levels that whole layers, whole heads and multiples of 256 do not allow, worked out from the recipes' sizes.
    ("demo", "decoder_depth"): {"depth_067": "depth 1 for 2, 0.5 x", "depth_133": "depth 3 for 2, 1.5 x"},
    ("demo", "decoder_width"): {
        "width_050": "ffn_hidden stays 256",
        "width_150": "ffn_hidden 512 for 256, 2 x",
    },
    ("laptop", "scaling"): ladder({"025": "ffn_hidden 12 for 44, 0.273 x", "050": "ffn_hidden 24 for 44, 0.545 x"}),
    ("demo", "scaling"): ladder(
        {
            "025": "width 32 for 96, 0.333 x; num_heads 2 for 6, 0.333 x; ffn_hidden stays 256",
            "050": "ffn_hidden stays 256",
        }
    ),
    ("demo", "resolution"): {},
    ("demo", "sensitivity"): {"width_050": "ffn_hidden stays 256"},
    ("tiny", "decoder_depth"): {},
    # Half of three heads of the probe's width are none: the width is a multiple of theirs.
    ("tiny", "sensitivity"): {
        "width_050": "width 256 for 384, 0.667 x; num_heads 2 for 3, 0.667 x; ffn_hidden 768 for 1024, 0.75 x"
    },
    ("small", "decoder_depth"): {"depth_067": "depth 5 for 8, 0.625 x"},
    ("vit_l_2b", "decoder_depth"): {},
    ("vit_l_2b", "decoder_width"): {"width_050": "ffn_hidden 1536 for 2816, 0.545 x"},
    ("vit_l_2b", "scaling"): ladder(
        {"025": "ffn_hidden 768 for 2816, 0.273 x", "050": "ffn_hidden 1536 for 2816, 0.545 x"}
    ),
}


@pytest.mark.parametrize(("scale", "slug"), LEVELS)
def test_labels_give_the_actual_ratio_where_it_misses_the_target(scale, slug):
    cells = expand(STUDIES[slug], with_attention(SCALES[scale]()), seeds=[0])
    assert off_ratios(STUDIES[slug], cells) == LEVELS[scale, slug]
    labels = {name: arm.label for name, arm in with_actual_ratios(STUDIES[slug], cells).arms.items()}
    for name, arm in STUDIES[slug].arms.items():
        here = LEVELS[scale, slug].get(name)
        assert labels[name] == (f"{arm.label} (here {here})" if here else arm.label)


def test_matched_samples_do_not_miss_a_target(tiny):
    study = replace(STUDIES["scaling"], equal="flops")
    cells = expand(study, tiny, arms=["size_100_samples_100", "size_200_samples_050"], seeds=[0])
    assert not any("samples" in words for words in off_ratios(study, cells).values())
