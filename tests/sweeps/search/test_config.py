"""The keys of a search."""

import re

import pytest
import yaml

from aimv2.base.errors import UsageError
from aimv2.sweeps.search.config import SearchConfig, search_config, search_values, with_arguments


def parsed(*words):
    """Return the search that these words of a command line describe, as a launch reads them."""
    values = search_values(["search=optuna", *words])["optuna"]
    for word in words:
        key, _, value = word.removeprefix("search.").partition("=")
        group, _, name = key.partition(".")
        if name:
            assert name in values[group], f"Hydra refuses {word}"
            values[group][name] = yaml.safe_load(value)
        else:
            values[group] = value
    return search_config(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "grid"}, "unknown search.sampler 'grid'. Allowed: "),
        ({"pruner": "hyper"}, "unknown search.pruner 'hyper'. Did you mean 'hyperband'?"),
        ({"metrics": ["content_loss", "content_loss"]}, "names a metric twice"),
        ({"trails": 3}, "trails"),
    ],
)
def test_values_that_are_not_allowed_are_refused_in_one_sentence(values, message):
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        search_config(search_values(["search=optuna"])["optuna"] | values)
    assert "\n" not in str(refused.value)


def test_the_choice_on_the_command_line_has_the_defaults():
    assert parsed() == SearchConfig()
    assert search_values([])["none"] == {}


@pytest.mark.parametrize(
    ("words", "sampler", "arguments"),
    [
        (["search.sampler=TPESampler"], "tpe", {}),
        (["search.sampler_args.n_startup_trials=10", "search.sampler_args.constant_liar=true"], "tpe", {}),
        (["search.sampler_args.n_startup_trials=20"], "tpe", {"n_startup_trials": 20}),
        (["search.sampler=nsga2", "search.sampler_args.population_size=8"], "nsga2", {"population_size": 8}),
        (["search.sampler=NSGAIIISampler"], "nsga3", {}),
    ],
)
def test_a_sampler_is_named_as_optuna_does_or_in_short_and_has_the_arguments_that_are_not_the_defaults(
    words, sampler, arguments
):
    found = parsed(*words)
    assert (found.sampler, found.sampler_args) == (sampler, arguments)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["search.pruner=percentile"],
            "search.pruner=percentile: .*percentile.*; its arguments are keys of search.pruner_args",
        ),
        (["search.pruner=asha", "search.pruner_args.reduction_factor=1"], r"search.pruner=asha: .*reduction_factor"),
    ],
)
def test_arguments_that_optuna_refuses_are_one_sentence(words, message):
    with pytest.raises(UsageError, match=message) as refused:
        parsed(*words)
    assert "\n" not in str(refused.value)


def test_arguments_are_in_the_name_of_a_sampler():
    assert with_arguments("tpe", {}) == "tpe"
    assert with_arguments("tpe", {"n_startup_trials": 20, "group": True}) == "tpe(n_startup_trials=20, group=True)"
