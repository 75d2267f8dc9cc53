"""A study, what a launch overrides of it, and matched budgets against the cost in closed form."""

import json
import re
from dataclasses import asdict, replace
from functools import cache

import pytest
from pydantic import TypeAdapter

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.design import Arm
from aimv2.ablations.expand import expand
from aimv2.ablations.expectations import PROBE, Combination, expect
from aimv2.ablations.study import (
    UNTRAINED,
    WINNER,
    StudyOverrides,
    confirmation,
    is_untrained,
    matched,
    study_overrides,
    untrained_of,
)
from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import BudgetConfig, ObjectiveConfig
from aimv2.cost import train_flops
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.definitions.objectives import objective
from tests.helpers.marks import exhaustive
from tests.helpers.other_model import STUDY as NUMBERS

METRICS = ("content_loss", "pixel_loss_0.5", PROBE)


def test_margins_are_measured_ones_and_else_conventions_and_a_launch_sets_that_of_the_primary_metric(study):
    assert [study.margin(metric) for metric in METRICS] == [0.1, 0.1, 0.01]
    measured = study.with_margins({"content_loss": 0.07, PROBE: 0.02})
    assert [measured.margin(metric) for metric in METRICS] == [0.07, 0.1, 0.02]
    assert (measured.primary_metric, measured.primary_margin) == ("content_loss", 0.07)
    (one,), (other,) = (expect("a", "equal", than="b", metric=PROBE, margin=margin) for margin in (None, 0.3))
    assert (measured.margin_of(one), measured.margin_of(other)) == (0.02, 0.3)
    chosen = replace(study, equivalence_margin=0.5).with_margins({"content_loss": 0.07, PROBE: 0.02})
    assert [chosen.margin(metric) for metric in METRICS] == [0.5, 0.1, 0.02]
    assert replace(study, equivalence_margin=0.0).primary_margin == 0, "a margin of 0 is a margin"


@pytest.mark.parametrize(
    ("values", "ending"),
    [
        ({}, ""),
        ({"equal": "flops"}, "_equal_flops"),
        ({"is_search": True}, "_search"),
        ({"equal": "flops", "is_search": True}, "_equal_flops_search"),
        ({"suffix": "wide", "is_search": True}, "_search_wide"),
    ],
)
def test_folder_names_what_is_held_equal_a_search_and_the_suffix(study, values, ending):
    assert replace(study, **values).folder == f"prefix_ratio{ending}"


def test_confirmation_of_a_search_compares_its_winner_with_the_baseline_and_judges_no_claim(study):
    arms = {study.baseline: study.arms[study.baseline], WINNER: Arm(label="trial 3")}
    found = confirmation(study, arms)
    assert found.conditions == ["uniform", "winner"]
    assert (found.claims, found.expected, found.controls, found.is_search) == ({}, {}, (), True)
    assert found.deciding_metrics == [study.primary_metric]
    assert (found.slug, found.question) == (study.slug, study.question)
    assert found.margin("content_loss") == study.margin("content_loss")


@pytest.mark.parametrize("name", ["null_control", "untrained", "untrained_mine"])
def test_arm_cannot_take_the_name_of_a_control(study, name):
    arms = {**study.arms, name: Arm(label="mine")}
    with pytest.raises(UsageError, match=f"{name} cannot name an arm; every study has one of that name"):
        replace(study, design=replace(study.design, arms=arms))


def test_untrained_encoders_have_names_and_labels_of_their_own(study):
    assert not any(map(is_untrained, study.conditions))
    assert all(map(is_untrained, [UNTRAINED, untrained_of("causal")]))
    assert study.label(UNTRAINED) == "untrained"
    assert study.label("untrained_causal") == f"{study.label('causal')}, untrained"
    assert study.cell_names[: len(study.conditions) + 1] == [*study.conditions, UNTRAINED]
    assert set(map(untrained_of, study.arms)) < set(study.cell_names)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("numbers_20", "unknown arm in expected of sweep 'numbers': 'numbers_20'. Did you mean 'numbers_10'?"),
        ("numbers_40", "Allowed: numbers_10, numbers_160."),  # the baseline has no expectation
    ],
)
def test_an_expectation_is_of_an_arm_beside_the_baseline(arm, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        replace(NUMBERS, expected={arm: "worse"})


@pytest.fixture(scope="module")
def base(tiny):
    """A run of 4,000 samples in which the vocabulary is a large part of the cost, as in the recipes."""
    return replaced(
        tiny, {"budget.samples": 4000, "budget.batch_size": 40, "model.vocab_size": 1024, "model.decoder.depth": 3}
    )


@cache
def supervised(data, model, supervise_eos):
    """Return the supervised tokens of the first 4,000 training samples, read as training reads them."""
    config = RunConfig(
        scale="test",
        data=data,
        model=model,
        budget=BudgetConfig(samples=4000, batch_size=500),
        objective=ObjectiveConfig(supervise_eos=supervise_eos),
    )
    pairs = prepare(data, model.vocab_size)
    batches = TrainBatches(config, pairs.train, pairs.tokenizer)
    return sum(batches[step].num_supervised for step in range(len(batches)))


def realised(run):
    """Return the training FLOPs of a run whose captions are as long as those of the first 4,000 samples."""
    parts, samples = objective(run.objective.name).cost(run), run.budget.samples
    first = supervised(run.data, run.model, run.objective.supervise_eos)
    return train_flops(parts, samples, round(first * samples / 4000))


@pytest.mark.parametrize("slug", ["eos", *map(exhaustive, ("objective", "decoder_width", "synthetic_fraction"))])
def test_equal_flops_are_equal_once_the_captions_are_read(base, slug):
    study = replace(STUDIES[slug], equal="flops")
    cells = {cell.arm: cell.config for cell in expand(study, base, seeds=[0]) if cell.arm in study.arms}
    flops = {arm: realised(run) for arm, run in cells.items()}
    for arm, run in cells.items():
        half_a_batch = realised(run) * run.budget.batch_size / run.budget.samples / 2
        assert flops[arm] == pytest.approx(flops[study.baseline], abs=0.01 * flops[study.baseline] + half_a_batch)


def test_equal_samples_leave_an_arms_own_samples(base):
    larger = replaced(base, {"budget.samples": 40_960})
    assert matched(larger, base, "samples") == larger


def test_own_values_change_nothing_and_another_metric_drops_expectations_and_has_its_own_margin(study):
    own = study_overrides(study)
    assert own.apply(study) == study
    other = replace(own, primary_metric=PROBE).apply(study)
    assert (other.expected, other.primary_margin) == ({}, 0.01)
    assert replace(own, primary_metric=PROBE, equivalence_margin=0.05).apply(study).equivalence_margin == 0.05
    assert study_overrides(other).apply(study) == other, "as a recorded request is read"


def test_expectation_is_overridden_or_left_open_and_a_claim_without_one_is_left_out(study):
    own = study_overrides(study)
    expected = own.expected | {"causal": None, "fixed_50": "better"}
    changed = replace(own, expected=expected, claims={**study.claims, "prefix-beats-causal": ()}).apply(study)
    assert changed.expected == {"fixed_50": "better", "causal_same_patches": "worse"}
    assert set(changed.claims) == set(study.claims) - {"prefix-beats-causal"}


SUM = Combination(name="sum", metric=PROBE, weights={"uniform": 1.0, "null_control": -1.0}, relation="better")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"baseline": "casual"}, "unknown sweep.baseline 'casual'. Did you mean 'causal'"),
        ({"baseline": "causal", "expected": {"causal": "better"}}, "sweep.expected.causal: it is the baseline"),
        ({"claims": {"c": (SUM,)}}, "unknown arm of sweep.claims.c 'null_control'"),  # with seeds or data of its own
    ],
)
def test_override_that_names_no_other_arm_is_refused(study, values, message):
    with pytest.raises(UsageError, match=message):
        replace(study_overrides(study), **values).apply(study)


@pytest.mark.parametrize("slug", ["batch_size", "decoder_size", "prefix_ratio", "sample_efficiency"])
def test_every_kind_of_expectation_is_read_from_what_is_written(slug):
    own = study_overrides(STUDIES[slug])
    written = json.loads(json.dumps(asdict(own)))
    assert TypeAdapter(StudyOverrides).validate_python(written).claims == dict(own.claims)


def test_number_of_seeds_counts_from_zero(study):
    assert replace(study_overrides(study), seeds=3).seeds == (0, 1, 2)
    assert replace(study_overrides(study), seeds=[5, 7]).seeds == (5, 7)
