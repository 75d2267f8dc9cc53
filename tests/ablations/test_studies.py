"""Every arm of every study takes real steps, and arms are paired."""

from dataclasses import replace

import pytest
import torch

from ablations.catalogue import STUDIES
from ablations.study import UNTRAINED, Arm, Launched, Study, read_launched, write_launched
from aimv2.data.batches import TrainBatches
from aimv2.errors import UsageError
from aimv2.record import RunFolder
from aimv2.run import execute

ARMS = [(study, arm) for study in STUDIES.values() for arm in study.arms]
arms = pytest.mark.parametrize(("study", "arm"), ARMS, ids=[f"{study.slug}-{arm}" for study, arm in ARMS])


@pytest.fixture
def study():
    return STUDIES["prefix_ratio"]


@arms
def test_every_arm_takes_two_steps(study, arm, tiny, tmp_path):
    cell = study.cells(tiny, arms=[arm], seeds=[0])[0]
    run = RunFolder(tmp_path, cell.name)
    assert execute(run.claim(cell.config), cell.config) is None
    assert len(run.metrics().dropna(subset=["text_loss"])) == 2
    assert study.primary_metric in run.result()["metrics"]


@arms
def test_an_arm_sees_what_the_baseline_sees(study, arm, tiny, pairs):
    baseline, other = (
        study.cells(tiny, arms=[study.baseline], seeds=[3])[0],
        study.cells(tiny, arms=[arm], seeds=[3])[0],
    )
    train, _, tokenizer = pairs
    one, two = (TrainBatches(cell.config, train, tokenizer)[1] for cell in (baseline, other))
    assert torch.equal(one.image, two.image)
    assert torch.equal(one.token_BT, two.token_BT)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_claim_speaks_of_arms_that_exist(study):
    assert study.question.endswith("?")
    expected = [expectation for claim in study.claims for expectation in claim.expectations]
    assert {e.arm for e in expected} | {e.than_arm for e in expected} <= set(study.arms)
    assert all(claim.expectations for claim in study.claims)
    assert len({claim.id for claim in study.claims}) == len(study.claims)


def test_cells_are_arms_by_seeds_and_an_untrained_encoder_a_seed(study, tiny):
    cells = study.cells(tiny, seeds=[0, 5])
    assert [(cell.arm, cell.seed) for cell in cells if cell.arm != UNTRAINED] == [
        (a, s) for s in (0, 5) for a in study.arms
    ]
    untrained = [cell for cell in cells if cell.arm == UNTRAINED]
    assert [cell.seed for cell in untrained] == [0, 5]
    assert all(cell.config.budget.samples == 0 for cell in untrained)
    assert len({cell.name for cell in cells}) == len(cells)
    assert study.cells(tiny) == study.cells(tiny, arms=list(study.arms), seeds=study.seeds)


def test_two_studies_that_ask_for_the_same_run_share_it(study, tiny):
    other = Study(
        slug="other",
        question="Is it shared?",
        source="none",
        baseline="plain",
        arms={"plain": Arm(label="as it is", change=lambda run: run)},
        seeds=(0,),
        primary_metric="caption_loss",
        lower_is_better=True,
        claims=(),
    )
    assert other.cells(tiny)[0].name == study.cells(tiny, arms=["uniform"], seeds=[0])[0].name


@pytest.mark.parametrize(
    ("arms", "seeds"), [(["causal", "causal"], [0]), (["causal"], [0, 0]), ([], [0]), (["causal"], [])]
)
def test_arms_and_seeds_are_named_once_and_not_none(study, tiny, arms, seeds):
    with pytest.raises(UsageError, match="must name at least one, and each once"):
        study.cells(tiny, arms=arms, seeds=seeds)


def test_the_untrained_encoder_is_the_baselines(study, tiny):
    deeper = Arm(
        label="deeper",
        change=lambda run: replace(run, model=replace(run.model, encoder=replace(run.model.encoder, depth=3))),
    )
    other = replace(study, arms={**study.arms, "deeper": deeper})
    start = other.cells(tiny, arms=["uniform", "deeper"], seeds=[0])[-1]
    assert start.config.model == tiny.model


def test_an_arm_that_does_not_exist_is_named(study, tiny):
    with pytest.raises(UsageError, match=r"unknown arm 'casual'. Did you mean 'causal'\?"):
        study.cells(tiny, arms=["casual"])


def test_an_arm_that_cannot_be_built_is_named(study, tiny):
    broken = replace(
        study, arms={**study.arms, "none": Arm(label="no prefix", change=lambda run: replace(run, seed=-1))}
    )
    with pytest.raises(UsageError, match="arm 'none' cannot exist: "):
        broken.cells(tiny)


def test_arms_that_are_the_same_run_are_an_error(study, tiny):
    twice = replace(study, arms={**study.arms, "again": study.arms["causal"]})
    with pytest.raises(UsageError, match="arms 'causal' and 'again' are the same run at seed 0"):
        twice.cells(tiny)


def test_what_was_asked_for_is_read_back(study, tiny, tmp_path):
    cells = study.cells(tiny, seeds=[0, 1])
    with pytest.raises(UsageError, match="'prefix_ratio' was not launched"):
        read_launched(tmp_path, study)
    launched = Launched(cells=cells, arguments=("sweep=prefix_ratio", "sweep.seeds=2"))
    write_launched(tmp_path, study, launched)
    assert read_launched(tmp_path, study) == launched
    next(tmp_path.rglob("prefix_ratio.json")).write_text("[]")
    with pytest.raises(UsageError, match="does not say what was launched"):
        read_launched(tmp_path, study)
