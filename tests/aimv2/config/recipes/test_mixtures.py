"""Presets of mixtures on a command line."""

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import demo
from aimv2.request.compose import compose, run_config


def composed(*words):
    return run_config(compose(words, defaults={}))


def test_preset_sets_weights_and_shares_of_dense_captions():
    data = composed("mixture=paper", "data.sources=[/a/dfn.yaml,/b/coyo.yaml,/c/hqitp.yaml]").data
    assert data.weights == (60, 9, 31)
    assert [data.dense_share(number) for number in range(3)] == pytest.approx([0.5, 0, 3 / 31])
    data = composed("mixture=public", "scale=tiny").data
    assert (data.weights, data.dense_fractions) == ((30, 9, 0), (0, 0, 0))


def test_without_a_preset_the_recipe_stays():
    assert composed() == composed("mixture=own") == demo()


def test_a_typed_value_overrides_the_preset():
    assert composed("mixture=paper", "data.weights=[1,1,1]").data.weights == (1, 1, 1)


@pytest.mark.parametrize("sources", ["openmoji", "a.yaml,b.yaml,c.yaml", "coyo.yaml,dfn.yaml,hqitp.yaml"])
def test_other_sources_are_refused(sources):
    with pytest.raises(UsageError, match=r"mixture=paper needs three sources, dfn\.yaml, coyo\.yaml, hqitp\.yaml in"):
        composed("mixture=paper", f"data.sources=[{sources}]")


def test_an_unknown_preset_is_refused():
    with pytest.raises(UsageError, match=r"unknown mixture 'papr'\. Did you mean 'paper'\?"):
        composed("mixture=papr")
