"""Values by path, against plain replacement of dataclasses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from aimv2.config.paths import differences, replaced, value_at
from aimv2.config.prefix import PrefixDistribution
from aimv2.config.program import flattened
from aimv2.config.recipes.scales import demo, tiny
from aimv2.config.run_config import RunConfig

VALUES = flattened(demo().to_dict())


def test_replaced_sets_all_values_at_once():
    changed = replaced(demo(), {"model.encoder.width": 160, "model.encoder.num_heads": 5, "seed": 3})
    encoder = replace(demo().model.encoder, width=160, num_heads=5)
    assert changed == replace(demo(), seed=3, model=replace(demo().model, encoder=encoder))


def test_replaced_builds_a_whole_part_from_a_mapping():
    fixed = replaced(demo(), {"prefix": {"law": "fixed", "fraction": 0.5}})
    assert replaced(fixed, {"prefix": {"law": "causal"}}).prefix == PrefixDistribution(law="causal")


@given(st.sampled_from(sorted(VALUES)))
def test_value_at_any_path_can_be_put_back(path):
    assert replaced(demo(), {path: value_at(demo(), path)}) == demo()
    assert flattened(demo().to_dict())[path] == VALUES[path]


def test_differences_turn_the_other_run_into_the_first():
    assert differences(demo(), demo()) == {}
    nested = demo().to_dict()
    for path, value in differences(tiny(), demo()).items():
        *groups, name = path.split(".")
        owner = nested
        for group in groups:
            owner = owner[group]
        owner[name] = value
    assert RunConfig.from_dict(nested) == tiny()


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
