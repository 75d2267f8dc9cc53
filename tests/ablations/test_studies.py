"""Every arm of every study takes real steps, and arms are paired."""

import json
from dataclasses import replace
from functools import cache

import pytest
import torch

from ablations.catalogue import STUDIES
from ablations.claims import CLAIMS
from ablations.design import Arm, one_factor, unchanged
from ablations.launched import Launched, launched_names, read_launched, write_launched
from ablations.study import CONTROLS, NULL_SEED, UNTRAINED, Study, asked
from aimv2.data.batches import TrainBatches
from aimv2.data.pairs import prepare
from aimv2.errors import UsageError
from aimv2.evaluation.evaluate import not_applicable
from aimv2.model.network import build
from aimv2.objectives import objective
from aimv2.paths import differences, replaced, value_at
from aimv2.record import RunFolder
from aimv2.resolve import with_attention
from aimv2.run import execute
from aimv2.scales import vit_l_2b
from aimv2.training.loop import train
from tests.aimv2.training.test_loop import Rows

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
    train(config, build(config), batches, attempt=record, held_out=lambda model: {}, on_rows=lambda rows: None)
    assert [row["step"] for row in record.rows] == [0, 1, 2]
    assert study.primary_metric not in not_applicable(config)


@pytest.mark.parametrize("arm", ["uniform", "positive_control", UNTRAINED])
def test_a_cell_becomes_a_result_with_the_primary_metric(study, arm, tiny, tmp_path):
    cell = next(cell for cell in study.cells(tiny, seeds=[0]) if cell.arm == arm)
    run = RunFolder(tmp_path, cell.name)
    assert execute(run.claim(cell.config), cell.config) is None
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
    assert study.smallest_difference > 0
    assert study.controls == ("null_control", "positive_control")
    expected = [expectation for expectations in study.claims.values() for expectation in expectations]
    assert {e.arm for e in expected} | {e.than_arm for e in expected} <= set(study.arms)
    assert set(study.claims) <= set(CLAIMS)
    assert all(study.claims.values())


def test_every_claim_is_decided_by_some_study():
    assert set(CLAIMS) == {name for study in STUDIES.values() for name in study.claims}


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


def test_arms_without_pairing_have_seeds_of_their_own(study, tiny):
    cells = replace(study, pairing="none").cells(tiny, seeds=[0, 1])
    seeds = [cell.config.seed for cell in cells if cell.arm in {*study.arms, "null_control"}]
    assert len(set(seeds)) == len(seeds)


def test_two_studies_that_ask_for_the_same_run_share_it(study, tiny):
    other = Study(
        slug="other",
        question="Is it shared?",
        source="none",
        design=one_factor({"plain": Arm(label="as it is", change=unchanged)}),
        baseline="plain",
        primary_metric="caption_loss",
        smallest_difference=0.1,
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


def test_arms_that_are_the_same_run_are_an_error(study, tiny):
    twice = with_arms(study, {"again": study.arms["causal"]})
    with pytest.raises(UsageError, match="arms 'causal' and 'again' are the same run at seed 0"):
        twice.cells(tiny)


def test_what_was_asked_for_is_read_back(study, tiny, tmp_path):
    wanted = replace(asked(study), seeds=(0, 1), equal="flops", controls=("null_control",), smallest_difference=0.5)
    study = wanted.of(study)
    cells = study.cells(tiny, seeds=wanted.seeds)
    with pytest.raises(UsageError, match=r"'prefix_ratio' was not launched into .* launched there: none"):
        read_launched(tmp_path, "prefix_ratio", STUDIES)
    launched = Launched(study=study, cells=cells, arguments=("sweep=prefix_ratio", "sweep.seeds=2"))
    write_launched(tmp_path, launched)
    assert launched_names(tmp_path) == ["prefix_ratio_equal_flops_test"]
    assert read_launched(tmp_path, "prefix_ratio_equal_flops_test", STUDIES) == launched


@pytest.mark.parametrize("broken", ["[]", '{"cells": []}', "{"])
def test_a_broken_record_of_a_launch_is_named(study, tiny, tmp_path, broken):
    write_launched(tmp_path, Launched(study=study, cells=study.cells(tiny), arguments=()))
    (path,) = tmp_path.rglob("prefix_ratio_test.json")
    path.write_text(broken)
    with pytest.raises(UsageError, match=r"prefix_ratio_test\.json (does not say what was launched|cannot be read)"):
        read_launched(tmp_path, "prefix_ratio_test", STUDIES)


def test_a_record_of_a_study_that_is_no_more_is_named(study, tiny, tmp_path):
    write_launched(tmp_path, Launched(study=study, cells=study.cells(tiny), arguments=()))
    (path,) = tmp_path.rglob("prefix_ratio_test.json")
    assert json.loads(path.read_text())["sweep"]["slug"] == "prefix_ratio"
    with pytest.raises(UsageError, match="does not say what was launched"):
        read_launched(tmp_path, "prefix_ratio_test", {})
