import pytest

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import demo
from aimv2.request.compose import compose, run_config


def composed(*overrides):
    return compose(overrides, defaults={}, values={"runs_dir": "runs"})


def test_compose_without_overrides_is_the_recipe():
    assert run_config(composed()) == run_config(composed("scale=demo")) == demo()


def test_compose_applies_overrides_to_every_part():
    config = run_config(
        composed(
            "model.encoder.width=192",
            "prefix.law=fixed",
            "prefix.fraction=0.5",
            "data.sources=[material]",
            "data.weights=[2]",
            "seed=7",
        )
    )
    assert config.model.encoder.width == 192
    assert config.prefix.fraction == 0.5
    assert config.data.sources == ("material",)
    assert config.data.weights == (2.0,)
    assert config.seed == 7
    assert composed("runs_dir=/elsewhere")["runs_dir"] == "/elsewhere"


def test_a_composition_does_not_change_the_next_one():
    first = composed("seed=7")
    first["data"]["sources"].append("another")
    first["model"]["encoder"]["width"] = 1
    assert run_config(composed()) == demo()
    assert composed("scale=laptop")["scale"] == "laptop"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scale=dmeo", r"unknown scale 'dmeo'. Did you mean 'demo'\? Allowed: demo"),
        (
            "modle.encoder.width=3",
            "Did you mean 'model.encoder.width' or 'model.decoder.width' or",
        ),
        ("model.encoder.widht=3", r"Did you mean 'model.encoder.width'\?"),
        ("samples=3", "unknown key 'samples'. Did you mean 'budget.samples'?"),
        ("encoder.width=3", "unknown key 'encoder.width'. Did you mean 'model.encoder.width'?"),
        ("optimizer.lr=1e-3", "unknown key 'optimizer.lr'. Did you mean 'optimizer.peak_lr'?"),
        ("optimizer.learning_rate=1", "unknown key 'optimizer.learning_rate'. Did you mean 'optimizer.peak_lr'?"),
        ("--multirun", "cannot use '--multirun': nothing is needed"),
        ("seed", "key=value"),
        ("seed=1,2", "one plain key=value"),
        ("+new=1", "one plain key=value"),
        ("~seed", "one plain key=value"),
        ("seed@model=1", "one plain key=value"),
        ("scale@model=demo", "one plain key=value"),
        ("seed=[1", "cannot read"),
        (
            "model=3",
            "cannot use 'model=3': model is a group of keys, .*: model.encoder.…, model.decoder.…, .*, model.patch_ord",
        ),
        ("model={}", "model is a group of keys"),
        ("prefix=null", "each set by its path: prefix.law, prefix.fraction"),
        ("model.encoder={width:192}", "model.encoder is a group of keys, .*: model.encoder.width"),
        ("objective.name=clipp", r"^unknown objective.name 'clipp'. Did you mean 'clip'\?"),
        ("objective=clip", "objective is a group of keys; write objective.name=clip$"),
        ("prefix=fixed", "write prefix.law=fixed$"),
        ("seed=${threads}", "is not supported"),
        ("data.cache_dir=${oc.env:HOME}", r"cannot use 'data.cache_dir=\$\{oc.env:HOME\}': values are literal"),
        (r'data.cache_dir="\${oc.env:HOME}"', "is not supported"),
    ],
)
def test_compose_refuses_invalid_overrides_in_one_sentence(override, message):
    with pytest.raises(UsageError, match=message) as caught:
        run_config(composed(override))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("twice", [("seed=1", "seed=2"), ("seed=1", "seed=1"), ("scale=demo", "scale=tiny")])
def test_compose_names_a_key_that_is_given_twice(twice):
    key = twice[0].partition("=")[0]
    with pytest.raises(UsageError, match=f"^{key}= is given twice; once is allowed$"):
        composed(*twice)


@pytest.mark.parametrize(
    ("typed", "meant"), [("limt=2h", "limit"), ("plugin=[a.py]", "plugins"), ("debg=true", "debug")]
)
def test_keys_that_are_read_before_are_suggested(typed, meant):
    with pytest.raises(UsageError, match=f"Did you mean '{meant}'"):
        compose([typed], defaults={})
