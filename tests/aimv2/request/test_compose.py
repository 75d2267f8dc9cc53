import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import demo
from aimv2.request.compose import compose, run_config, with_file


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
        ("modle.encoder.width=3", "Did you mean 'model.encoder.width' or 'model.decoder.width' or"),
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
        ("optimizer.name=adam", r"optimizer.name: .*'adamw'.*got 'adam'.*Did you mean 'adamw'"),
        ("limt=2h", "Did you mean 'limit'"),
        ("plugin=[a.py]", "Did you mean 'plugins'"),
        ("debg=true", "Did you mean 'debug'"),
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


TEXT = """
scale: laptop
optimizer: {peak_lr: 1e-3}
budget.samples: 40960
data:
  sources: [openmoji, material]
  tokenizer: null
log: {tensorboard: false}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(TEXT)
    return path


def test_keys_of_the_file_are_as_if_they_were_typed(file):
    typed = [
        *("scale=laptop", "optimizer.peak_lr=1e-3", "budget.samples=40960", "data.sources=[openmoji,material]"),
        *("data.tokenizer=null", "log.tensorboard=false"),
    ]
    assert with_file([f"config={file}"]) == typed
    assert compose(with_file([f"config={file}"]), defaults={}) == compose(typed, defaults={})


def test_what_is_typed_counts_before_or_after_the_file(file):
    for words in (["scale=demo", f"config={file}"], [f"config={file}", "scale=demo"]):
        found = with_file(words)
        assert "scale=demo" in found
        assert "scale=laptop" not in found


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("- a\n- b\n", ["config=my.yaml"], "has no keys with values"),
        ("1: 2\n", ["config=my.yaml"], "has no keys with values"),
        ("a: [1\n", ["config=my.yaml"], "cannot be read: while parsing"),
        ("", ["config=my.yaml"], "has no keys with values"),
        (TEXT, ["config=my.yaml", "config=my.yaml"], "config= is given twice"),
        (TEXT, ["config=nowhere.yaml"], "config=nowhere.yaml cannot be read: .*No such file"),
    ],
)
def test_one_file_that_exists_and_has_keys_is_allowed(tmp_path, monkeypatch, text, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        with_file(words)
    assert "\n" not in str(caught.value)


plain = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
# A text such as "null" or "1" is a value of another type in the grammar of overrides, and so it is in a file.
texts = st.text("abc xyz'\"\\,=[]{}:é/-_.", min_size=1).filter(lambda text: "${" not in text and not text.isspace())


@example(values={"a": "é"})
@given(values=st.dictionaries(st.sampled_from("abc"), plain | texts | st.lists(texts, max_size=3), min_size=1))
def test_any_value_comes_back_from_the_grammar_of_overrides(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("overrides") / "my.yaml"
    path.write_text(yaml.safe_dump(values))
    overrides = OverridesParser.create().parse_overrides(with_file([f"config={path}"]))
    assert {one.key_or_group: one.value() for one in overrides} == values
