import pytest

from aimv2.config.compose import compose, run_config
from aimv2.config.scales import demo
from aimv2.errors import UsageError


def composed(*overrides):
    return compose(overrides, defaults={}, values={"runs_dir": "runs"})


def test_without_overrides_it_is_the_recipe():
    assert run_config(composed()) == run_config(composed("scale=demo")) == demo()


def test_overrides_reach_every_part():
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scale=dmeo", r"unknown scale 'dmeo'. Did you mean 'demo'\? Allowed: demo"),
        ("modle.encoder.width=3", "unknown key 'modle.encoder.width'.* Allowed: .*model"),
        ("model.encoder.widht=3", r"Did you mean 'model.encoder.width'\?"),
        ("samples=3", "unknown key 'samples'"),
        ("seed", "key=value"),
        ("--multirun", "key=value"),
        ("seed=1,2", "one plain key=value"),
        ("+new=1", "one plain key=value"),
        ("~seed", "one plain key=value"),
        ("seed=[1", "cannot read"),
        (
            "model=3",
            "cannot use 'model=3': model is a part .*: model.encoder.…, model.decoder.…, .*, model.patch_order",
        ),
        ("model={}", "model is a part with values of its own"),
        ("prefix=null", "each set by its path: prefix.law, prefix.fraction"),
        ("model.encoder={width:192}", "model.encoder is a part with .*: model.encoder.width"),
        ("objective=clip", "objective is a part with values of its own; say objective.name=clip$"),
        ("prefix=fixed", "say prefix.law=fixed$"),
        ("seed=${threads}", "is not looked up"),
        (
            "data.cache_dir=${oc.env:HOME}",
            r"cannot use 'data.cache_dir=\$\{oc.env:HOME\}': a value is taken as it stands",
        ),
        (r'data.cache_dir="\${oc.env:HOME}"', "is not looked up"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_sentence(override, message):
    with pytest.raises(UsageError, match=message) as caught:
        run_config(composed(override))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("twice", [("seed=1", "seed=2"), ("seed=1", "seed=1"), ("scale=demo", "scale=tiny")])
def test_a_key_that_is_given_twice_is_named(twice):
    key = twice[0].partition("=")[0]
    with pytest.raises(UsageError, match=f"^{key}= is given twice; once is allowed$"):
        composed(*twice)
