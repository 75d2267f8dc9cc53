import pytest

from aimv2.compose import compose, run_config
from aimv2.errors import UsageError
from aimv2.scales import demo


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
        ("model=3", "model"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_sentence(override, message):
    with pytest.raises(UsageError, match=message) as caught:
        run_config(composed(override))
    assert "\n" not in str(caught.value)
