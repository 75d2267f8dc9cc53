"""Cells: pairing, controls, refusals, and the ratios that arms miss."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.catalogue import STUDIES
from ablations.design import Arm, one_factor
from ablations.expand import NULL_SEED, expand, off_ratios, with_actual_ratios
from ablations.study import CONTROLS, UNTRAINED, Study
from aimv2.base.errors import UsageError
from aimv2.config.paths import differences, replaced
from aimv2.config.recipes.scales import SCALES
from aimv2.data.batches.training import TrainBatches
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


def test_untrained_encoder_is_the_baselines(study, tiny):
    deeper = Arm(
        label="deeper",
        change=lambda run: replace(run, model=replace(run.model, encoder=replace(run.model.encoder, depth=3))),
    )
    start = expand(with_arms(study, {"deeper": deeper}), tiny, arms=["uniform", "deeper"], seeds=[0])[-1]
    assert start.config.model == tiny.model


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
        UsageError, match=r"'size_100_samples_050' are the same run once sweep\.equal=flops has changed"
    ):
        expand(scaling, replaced(tiny, {"budget.samples": 640}))


def test_arms_without_the_baseline_are_refused(study, tiny):
    with pytest.raises(UsageError, match=r"sweep\.arms=\['causal'\] leaves out the baseline 'uniform'"):
        expand(study, tiny, arms=["causal"])
    cells = expand(replace(study, baseline="causal", expected={}), tiny, arms=["causal"], seeds=[0])
    assert [cell.arm for cell in cells] == ["causal", *CONTROLS, UNTRAINED]


LEVELS = {
    # Levels that whole layers, whole heads and multiples of 256 do not allow, worked out from the recipes' sizes.
    ("demo", "decoder_depth"): {"depth_067": "depth 1 for 2, 0.5 x", "depth_133": "depth 3 for 2, 1.5 x"},
    ("demo", "decoder_width"): {
        "width_050": "ffn_hidden 256 for 256, 1 x",
        "width_150": "ffn_hidden 512 for 256, 2 x",
    },
    ("demo", "scaling"): {
        f"size_150_{samples}": "ffn_hidden 512 for 256, 2 x"
        for samples in ("samples_025", "samples_050", "samples_100", "samples_200")
    },
    ("demo", "resolution"): {},
    ("demo", "sensitivity"): {"width_050": "ffn_hidden 256 for 256, 1 x"},
    ("tiny", "decoder_depth"): {},
    # Half of three heads of the probe's width are none: the width is a multiple of theirs.
    ("tiny", "sensitivity"): {
        "width_050": "width 256 for 384, 0.667 x; num_heads 2 for 3, 0.667 x; ffn_hidden 768 for 1024, 0.75 x"
    },
    ("small", "decoder_depth"): {"depth_067": "depth 5 for 8, 0.625 x"},
    ("vit_l_2b", "decoder_depth"): {},
    ("vit_l_2b", "decoder_width"): {"width_050": "ffn_hidden 1536 for 2816, 0.545 x"},
    ("vit_l_2b", "scaling"): {},
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
