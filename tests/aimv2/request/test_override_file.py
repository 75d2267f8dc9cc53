import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from aimv2.request.compose import compose
from aimv2.request.override_file import with_file

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
    ("text", "message"),
    [
        ("- a\n- b\n", "has no keys with values"),
        ("1: 2\n", "has no keys with values"),
        ("a: [1\n", "cannot be read: while parsing"),
        ("", "has no keys with values"),
    ],
)
def test_a_file_without_keys_is_refused(tmp_path, text, message):
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        with_file([f"config={tmp_path / 'my.yaml'}"])
    assert "\n" not in str(caught.value)


def test_one_file_that_exists_is_allowed(file):
    with pytest.raises(UsageError, match="config= is given twice"):
        with_file([f"config={file}", f"config={file}"])
    with pytest.raises(UsageError, match=r"config=nowhere.yaml cannot be read: .*No such file"):
        with_file(["config=nowhere.yaml"])


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
