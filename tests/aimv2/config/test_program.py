"""Programs: what names a run of any model, and what is made of its values."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.ablations.study import matched
from aimv2.base.errors import UsageError
from aimv2.config.prefix import PrefixDistribution
from aimv2.config.program import Program, differences, flattened, replaced, value_at
from aimv2.config.recipes.scales import demo, tiny
from aimv2.config.run_config import program_of
from tests.helpers.other_model import Mean

MEANS = st.builds(
    Mean,
    seed=st.integers(0, 9),
    numbers=st.integers(1, 99),
    steps=st.integers(1, 9),
    scale=st.tuples(st.floats(0, 9)),
    shuffled=st.booleans(),
)


@given(MEANS, MEANS)
def test_equal_values_are_one_run_and_others_another(one, other):
    assert (one.name == other.name) == (one == other)
    assert program_of(one.to_dict()) == one


def test_every_field_is_part_of_the_name():
    other = {"seed": 1, "numbers": 2, "steps": 2, "scale": (2.0,), "shuffled": True}
    assert other.keys() == {field.name for field in fields(Mean)}
    names = {replace(Mean(), **{key: value}).name for key, value in other.items()}
    assert len(names | {Mean().name}) == len(other) + 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"program": "mean", "number": 1}, "unknown key 'number'. Did you mean 'numbers'?"),
        ({"program": "mean", "numbers": "many"}, "numbers: "),
        ({"program": "unheard"}, "runs of 'unheard' are of a plug-in; pass the file that adds it: plugins=[FILE.py]"),
    ],
)
def test_values_that_are_none_of_a_program_are_refused(values, message):
    with pytest.raises(UsageError) as caught:
        program_of(values)
    assert message in str(caught.value)


def test_aimv2_is_a_program():
    run = demo()
    assert isinstance(run, Program)
    assert program_of(run.to_dict()) == run
    assert run.with_seed(3) == replace(run, seed=3)
    assert run.without_training().num_samples == run.untrained().num_samples == 0
    assert run.with_samples(1.4 * run.budget.batch_size).num_samples == run.budget.batch_size


def test_what_a_program_lacks_is_said():
    with pytest.raises(UsageError, match="runs of mean cannot be given other samples"):
        Mean().with_samples(3)
    assert Mean().untrained() is None
    assert replace(Mean(), shuffled=True) == Mean().with_shuffled_targets()
    with pytest.raises(UsageError, match=r"sweep\.equal=flops is not possible: runs of mean have no flops_per_sample"):
        matched(Mean(numbers=10), Mean(), "flops")
    assert matched(Mean(numbers=10), Mean(), "samples") == Mean(numbers=10)


VALUES = flattened(demo().to_dict())


def test_replaced_sets_all_values_at_once_and_builds_a_whole_part_from_a_mapping():
    changed = replaced(demo(), {"model.encoder.width": 160, "model.encoder.num_heads": 5, "seed": 3})
    encoder = replace(demo().model.encoder, width=160, num_heads=5)
    assert changed == replace(demo(), seed=3, model=replace(demo().model, encoder=encoder))
    fixed = replaced(demo(), {"prefix": {"law": "fixed", "fraction": 0.5}})
    assert replaced(fixed, {"prefix": {"law": "causal"}}).prefix == PrefixDistribution(law="causal")


@given(st.sampled_from(sorted(VALUES)))
def test_value_at_any_path_can_be_put_back(path):
    assert replaced(demo(), {path: value_at(demo(), path)}) == demo()
    assert flattened(demo().to_dict())[path] == VALUES[path]


def test_differences_turn_the_other_run_into_the_first():
    assert differences(demo(), demo()) == {}
    assert replaced(demo(), differences(tiny(), demo())) == tiny()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.decodre.width": 3}, r"unknown key 'model.decodre'. Did you mean 'model.decoder'\?"),
        ({"model.decoder.witdh": 3}, r"unknown key 'model.decoder.witdh'. Did you mean 'model.decoder.width'\?"),
        ({"seed.more": 3}, "unknown key 'seed.more'"),
        ({"model.decoder.width": 97}, "width=97 is not divisible"),
        ({"model": 3}, "model"),
        ({"prefix": {"lwa": "causal"}}, "unknown key 'prefix.lwa'"),
    ],
)
def test_replaced_names_unknown_paths_and_invalid_values(values, message):
    with pytest.raises(UsageError, match=message):
        replaced(demo(), values)
