"""Every arm of every study takes real steps, and arms are paired."""

import json
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.catalogue import STUDIES
from ablations.claims import CLAIMS
from ablations.design import Arm, one_factor, unchanged
from ablations.expectations import PROBE, STEP_TIME
from ablations.overrides import study_overrides
from ablations.request import Request, read_request, requested_names, write_request
from ablations.study import CONTROLS, NULL_SEED, UNTRAINED, Study
from aimv2.config.paths import differences, replaced, value_at
from aimv2.config.resolve import with_attention
from aimv2.config.scales import SCALES, demo, vit_l_2b
from aimv2.data.batches import TrainBatches
from aimv2.data.pairs import prepare
from aimv2.errors import UsageError
from aimv2.evaluation.metrics import not_applicable
from aimv2.execute import execute
from aimv2.model.network import build
from aimv2.objectives import objective
from aimv2.runs.record import RunFolder
from aimv2.training.loop import train
from tests.helpers.training import Rows

CONDITIONS = [(study, arm) for study in STUDIES.values() for arm in study.conditions]
conditions = pytest.mark.parametrize(
    ("study", "arm"), CONDITIONS, ids=[f"{study.slug}-{arm}" for study, arm in CONDITIONS]
)
studies = pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)


@pytest.fixture
def study():
    return STUDIES["prefix_ratio"]


@pytest.fixture(scope="module")
def base(tiny):
    """The tiny run with room for what studies scale down."""
    return replaced(tiny, {"budget.samples": 64, "model.decoder.depth": 3})


@pytest.fixture(scope="module")
def prepared():
    """Pairs and tokenizer of a run, prepared once for all arms that read the same."""
    return cache(prepare)


def config_of(study, arm, base, *, seed=0):
    return next(cell.config for cell in study.cells(base, seeds=[seed]) if cell.arm == arm)


@conditions
def test_every_arm_takes_two_steps(study, arm, base, prepared):
    """And can report what the study compares."""
    if study.slug == "data_mix":
        base = replaced(base, {"data.sources": ("openmoji", "material", "fontawesome")})
    config = config_of(study, arm, base)
    config = replace(config, budget=replace(config.budget, samples=2 * config.budget.batch_size))
    objective(config.objective.name).check(config)
    pairs, _, tokenizer = prepared(replace(config.data, weights=None, captions="own"), config.model)
    record = Rows()
    batches = TrainBatches(config, pairs, tokenizer)
    train(config, objective(config.objective.name), build(config), batches, attempt=record)
    assert [row["step"] for row in record.rows] == [0, 1, 2]
    assert study.primary_metric not in not_applicable(config)


@pytest.mark.parametrize("arm", ["uniform", "positive_control", UNTRAINED])
def test_a_cell_becomes_a_result_with_the_primary_metric(study, arm, tiny, tmp_path):
    cell = next(cell for cell in study.cells(tiny, seeds=[0]) if cell.arm == arm)
    run = RunFolder(tmp_path, cell.name)
    assert execute(run.acquire(cell.config), cell.config) is None
    assert study.primary_metric in run.result()["metrics"]


@pytest.mark.parametrize("arm", STUDIES["prefix_ratio"].arms)
def test_an_arm_sees_what_the_baseline_sees(study, arm, tiny, pairs):
    baseline, other = (config_of(study, name, tiny, seed=3) for name in (study.baseline, arm))
    train_pairs, _, tokenizer = pairs
    one, two = (TrainBatches(config, train_pairs, tokenizer)[1] for config in (baseline, other))
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.token_BT, two.token_BT)


def test_controls_are_the_baseline_with_other_seeds_and_with_the_captions_of_other_images(study, tiny):
    baseline, null, positive = (config_of(study, name, tiny, seed=2) for name in (study.baseline, *CONTROLS))
    assert differences(null, baseline) == {"seed": 2 + NULL_SEED}
    assert differences(positive, baseline) == {"data.captions": "shuffled"}


@studies
def test_a_study_says_what_it_claims_and_expects(study):
    assert study.question.endswith("?")
    assert study.source
    assert study.equivalence_margin > 0
    assert study.controls == ("null_control", "positive_control")
    expected = [expectation for expectations in study.claims.values() for expectation in expectations]
    assert {e.arm for e in expected} | {e.than_arm for e in expected} <= set(study.arms)
    assert set(study.claims) <= set(CLAIMS)
    assert all(study.claims.values())


def test_every_claim_is_decided_by_some_study():
    assert set(CLAIMS) == {name for study in STUDIES.values() for name in study.claims}


def test_a_mixture_is_not_judged_by_losses_of_captions_that_an_arm_never_saw():
    """Arms that train on other kinds of captions than the baseline need a metric that has none."""
    for slug in ("data_mix", "synthetic_fraction"):
        study = STUDIES[slug]
        run = with_attention(demo())
        kinds = {arm: study.arms[arm].change(run).data.descriptive_fraction for arm in study.arms}
        others = {arm for arm in kinds if kinds[arm] != kinds[study.baseline]}
        assert others
        assert study.primary_metric == PROBE
        by_loss = {e.arm for seen in study.claims.values() for e in seen if "loss" in e.metric}
        assert not by_loss & others


PAPER = {
    ("decoder_width", "model.decoder.width"): [512, 1024, 1536],
    ("decoder_depth", "model.decoder.depth"): [8, 12, 16],
    ("loss_weight", "objective.pixel_weight"): [0, 0.2, 0.4, 0.6, 1, 2],
    ("resolution", "model.image_px"): [224, 336, 448],
    ("scaling", "model.encoder.width"): [1024, 1536, 2048, 3072],
    ("scaling", "model.encoder.num_heads"): [8, 12, 16, 24],
    ("scaling", "budget.samples"): [512_000_000, 1_024_000_000, 2_048_000_000, 4_096_000_000],
    ("scaling", "optimizer.peak_lr"): [4e-4, 8e-4, 1e-3],
    ("synthetic_fraction", "data.descriptive_fraction"): [0, 0.33, 0.5, 0.67, 1],
}


@pytest.mark.parametrize(("slug", "path"), PAPER, ids=lambda value: value)
def test_at_the_papers_scale_levels_are_the_papers(slug, path):
    cells = STUDIES[slug].cells(with_attention(vit_l_2b()), seeds=[0])
    levels = {value_at(cell.config, path) for cell in cells if cell.arm in STUDIES[slug].arms}
    assert sorted(levels) == pytest.approx(PAPER[slug, path])


LEVELS = {
    # What whole layers, whole heads and multiples of 256 leave of the levels: written down from the recipes' sizes.
    ("demo", "decoder_depth"): {"depth_067": "depth 1 for 2, 0.5 x", "depth_133": "depth 3 for 2, 1.5 x"},
    ("demo", "decoder_width"): {
        "width_050": "num_heads 2 for 3, 0.667 x; ffn_hidden 256 for 256, 1 x",
        "width_150": "num_heads 4 for 3, 1.33 x; ffn_hidden 512 for 256, 2 x",
    },
    ("demo", "scaling"): {
        f"size_150_{samples}": "width 128 for 96, 1.33 x; ffn_hidden 512 for 256, 2 x"
        for samples in ("samples_025", "samples_050", "samples_100", "samples_200")
    },
    ("demo", "resolution"): {},
    ("tiny", "decoder_depth"): {},
    ("small", "decoder_depth"): {"depth_067": "depth 5 for 8, 0.625 x"},
    ("vit_l_2b", "decoder_depth"): {},
    ("vit_l_2b", "decoder_width"): {"width_050": "ffn_hidden 1536 for 2816, 0.545 x"},
    ("vit_l_2b", "scaling"): {},
}


@pytest.mark.parametrize(("scale", "slug"), LEVELS)
def test_a_level_that_cannot_be_as_meant_is_said(scale, slug):
    cells = STUDIES[slug].cells(with_attention(SCALES[scale]()), seeds=[0])
    assert STUDIES[slug].off_levels(cells) == LEVELS[scale, slug]
    labels = {name: arm.label for name, arm in STUDIES[slug].as_run(cells).arms.items()}
    for name, arm in STUDIES[slug].arms.items():
        here = LEVELS[scale, slug].get(name)
        assert labels[name] == (f"{arm.label} (here {here})" if here else arm.label)


def test_samples_that_are_matched_are_no_level(tiny):
    study = replace(STUDIES["scaling"], equal="flops")
    cells = study.cells(tiny, arms=["size_100_samples_100", "size_200_samples_050"], seeds=[0])
    assert not any("samples" in words for words in study.off_levels(cells).values())


def test_cells_are_conditions_by_seeds_and_an_untrained_encoder_a_seed(study, tiny):
    cells = study.cells(tiny, seeds=[0, 5])
    assert [(cell.arm, cell.seed) for cell in cells if cell.arm != UNTRAINED] == [
        (a, s) for s in (0, 5) for a in (*study.arms, "null_control", "positive_control")
    ]
    untrained = [cell for cell in cells if cell.arm == UNTRAINED]
    assert [cell.seed for cell in untrained] == [0, 5]
    assert all(cell.config.budget.samples == 0 for cell in untrained)
    assert len({cell.name for cell in cells}) == len(cells)
    assert study.cells(tiny) == study.cells(tiny, arms=list(study.arms), seeds=study.seeds)


@pytest.mark.parametrize("baseline", ["uniform", "causal"])
@pytest.mark.parametrize("seeds", [[0, 1], [0, 1000], [999, 1000, 1001], [12_345, 0]])
def test_without_pairing_arms_have_seeds_of_their_own_and_the_positive_control_the_baselines(
    study, tiny, seeds, baseline
):
    cells = replace(study, pairing="none", baseline=baseline, expected={}).cells(tiny, seeds=seeds)
    of_arm = {
        arm: {cell.config.seed for cell in cells if cell.arm == arm} for arm in (*study.arms, *CONTROLS, UNTRAINED)
    }
    separate = [of_arm[arm] for arm in (*study.arms, "null_control")]
    assert len(set.union(*separate)) == sum(map(len, separate))
    assert of_arm["positive_control"] == of_arm[UNTRAINED] == of_arm[baseline]


@pytest.mark.parametrize("pairing", ["seed", "none"])
@given(seeds=st.sets(st.integers(0, 5000), min_size=1, max_size=5))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_seeds_no_two_cells_are_one_run(study, tiny, pairing, seeds):
    cells = [cell for cell in replace(study, pairing=pairing).cells(tiny, seeds=seeds) if cell.arm != UNTRAINED]
    assert len({cell.name for cell in cells}) == len(cells)
    baseline = {cell.config.seed for cell in cells if cell.arm == study.baseline}
    assert not baseline & {cell.config.seed for cell in cells if cell.arm == "null_control"}


def test_twelve_hundred_seeds_leave_the_null_control_its_own(study, tiny):
    cells = study.cells(tiny, arms=["uniform"], seeds=range(1200))
    assert {cell.config.seed for cell in cells if cell.arm == "null_control"} == set(range(2000, 3200))


def test_two_studies_that_ask_for_the_same_run_share_it(study, tiny):
    other = Study(
        slug="other",
        question="Is it shared?",
        source="none",
        design=one_factor({"plain": Arm(label="as it is", change=unchanged)}),
        baseline="plain",
        primary_metric="caption_loss",
        equivalence_margin=0.1,
    )
    names = {cell.arm: cell.name for cell in study.cells(tiny, seeds=[0])}
    assert {cell.arm: cell.name for cell in other.cells(tiny, seeds=[0])} == {
        "plain": names["uniform"],
        **{name: names[name] for name in ("null_control", "positive_control", UNTRAINED)},
    }


@pytest.mark.parametrize(
    ("arms", "seeds"), [(["causal", "causal"], [0]), (["causal"], [0, 0]), ([], [0]), (["causal"], [])]
)
def test_arms_and_seeds_are_named_once_and_not_none(study, tiny, arms, seeds):
    with pytest.raises(UsageError, match="must name at least one, and each once"):
        study.cells(tiny, arms=arms, seeds=seeds)


def with_arms(study, arms):
    return replace(study, design=replace(study.design, arms={**study.arms, **arms}))


def test_the_untrained_encoder_is_the_baselines(study, tiny):
    deeper = Arm(
        label="deeper",
        change=lambda run: replace(run, model=replace(run.model, encoder=replace(run.model.encoder, depth=3))),
    )
    start = with_arms(study, {"deeper": deeper}).cells(tiny, arms=["uniform", "deeper"], seeds=[0])[-1]
    assert start.config.model == tiny.model


def test_an_arm_that_does_not_exist_is_named(study, tiny):
    with pytest.raises(UsageError, match=r"unknown arm 'casual'. Did you mean 'causal'\?"):
        study.cells(tiny, arms=["casual"])


def test_an_arm_that_cannot_be_built_is_named(study, tiny):
    broken = with_arms(study, {"none": Arm(label="no prefix", change=lambda run: replace(run, seed=-1))})
    with pytest.raises(UsageError, match="arm 'none' cannot exist: "):
        broken.cells(tiny)
    with pytest.raises(UsageError, match=r"arm 'paper' cannot exist: it trains on \['material'\]"):
        STUDIES["data_mix"].cells(tiny)


def test_arms_that_are_the_same_run_are_refused_with_the_cause(study, tiny):
    twice = with_arms(study, {"again": study.arms["causal"]})
    with pytest.raises(UsageError, match="arms 'causal' and 'again' are the same run: the base run is too small"):
        twice.cells(tiny)
    with pytest.raises(UsageError, match="arms 'depth_067' and 'depth_100' are the same run: the base run is too sma"):
        STUDIES["decoder_depth"].cells(tiny)  # which has one block
    raw = replaced(tiny, {"objective.pixel_targets": "raw"})
    with pytest.raises(UsageError, match=r"'released' and 'raw' are the same run: .* or an override gives it what one"):
        STUDIES["loss_form"].cells(raw)


def test_arms_that_differ_in_what_is_made_equal_are_refused_with_the_cause():
    scaling = replace(STUDIES["scaling"], equal="flops")
    with pytest.raises(
        UsageError, match=r"'size_100_samples_050' are the same run once sweep\.equal=flops has changed"
    ):
        scaling.cells(with_attention(demo()))


def test_a_launch_without_the_baseline_is_refused(study, tiny):
    with pytest.raises(UsageError, match=r"sweep\.arms=\['causal'\] leaves out the baseline 'uniform'"):
        study.cells(tiny, arms=["causal"])
    cells = replace(study, baseline="causal", expected={}).cells(tiny, arms=["causal"], seeds=[0])
    assert [cell.arm for cell in cells] == ["causal", *CONTROLS, UNTRAINED]


def test_another_metric_has_no_expectations_and_what_matters_in_its_own_unit(study):
    wanted = study_overrides(study)
    assert wanted.apply(study) == study
    other = replace(wanted, primary_metric=PROBE).apply(study)
    assert (other.expected, other.equivalence_margin) == ({}, 0.01)
    assert replace(wanted, primary_metric=PROBE, equivalence_margin=0.05).apply(study).equivalence_margin == 0.05
    assert study_overrides(other).apply(study) == other, "as a launch's record is read"
    assert [study.margin(metric) for metric in ("caption_loss", PROBE, STEP_TIME)] == [0.02, 0.01, 0.0]


def test_what_was_asked_for_is_read_back(study, tiny, tmp_path):
    wanted = replace(
        study_overrides(study), seeds=(0, 1), equal="flops", controls=("null_control",), equivalence_margin=0.5
    )
    study = wanted.apply(study)
    cells = study.cells(tiny, seeds=wanted.seeds)
    with pytest.raises(UsageError, match=r"'prefix_ratio' was not launched into .* launched there: none"):
        read_request(tmp_path, "prefix_ratio", STUDIES)
    request = Request(study=study, cells=cells, arguments=("sweep=prefix_ratio", "sweep.seeds=2"))
    write_request(tmp_path, request)
    assert requested_names(tmp_path) == ["prefix_ratio_equal_flops_test"]
    assert read_request(tmp_path, "prefix_ratio_equal_flops_test", STUDIES) == request


@pytest.mark.parametrize("baseline", ["uniform", "causal"])
def test_a_record_from_before_a_key_could_be_asked_for_is_read(study, tiny, tmp_path, baseline):
    study = replace(study_overrides(study), baseline=baseline).apply(study)
    request = Request(study=study, cells=study.cells(tiny), arguments=())
    write_request(tmp_path, request)
    (path,) = tmp_path.rglob("prefix_ratio*.json")
    record = json.loads(path.read_text())
    for key in ("question", "source", "expected", "claims"):
        del record["sweep"][key]
    path.write_text(json.dumps(record))
    assert read_request(tmp_path, path.stem, STUDIES) == request


@pytest.mark.parametrize("broken", ["[]", '{"cells": []}', "{"])
def test_a_broken_record_of_a_launch_is_named(study, tiny, tmp_path, broken):
    write_request(tmp_path, Request(study=study, cells=study.cells(tiny), arguments=()))
    (path,) = tmp_path.rglob("prefix_ratio_test.json")
    path.write_text(broken)
    with pytest.raises(UsageError, match=r"prefix_ratio_test\.json (does not say what was launched|cannot be read)"):
        read_request(tmp_path, "prefix_ratio_test", STUDIES)


def test_a_record_of_a_study_that_is_no_more_is_named(study, tiny, tmp_path):
    write_request(tmp_path, Request(study=study, cells=study.cells(tiny), arguments=()))
    (path,) = tmp_path.rglob("prefix_ratio_test.json")
    assert json.loads(path.read_text())["sweep"]["slug"] == "prefix_ratio"
    with pytest.raises(UsageError, match="does not say what was launched"):
        read_request(tmp_path, "prefix_ratio_test", {})
