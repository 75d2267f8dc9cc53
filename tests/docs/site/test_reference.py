"""The reference has every key, study, metric and claim, and says of each what the code says."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.ablations.catalogue import FILES, STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.config.program import flattened
from aimv2.config.recipes.scales import demo
from aimv2.definitions.metrics import FINAL, metric_names
from aimv2.request.compose import compose, run_config
from aimv2.run.options import TrainOptions
from aimv2.sweeps.executors import BUILT_IN
from aimv2.sweeps.executors.base import executor_values
from aimv2.sweeps.parse import LaunchOptions
from aimv2.sweeps.search.space import SearchConfig
from docs.site.reference import attributes, in_words, pages

PAGES = pages()
KEYS = PAGES["reference/keys.md"]
LISTED = re.findall(r"^`([\w.]+)`\{ #\1 \}\n:   (.*)$", KEYS, flags=re.MULTILINE)
DEFAULT = r"(?:no default|default `(.*?)`)(?:, at `demo` `(.*?)`)?"
BOUNDED = Annotated[float, Field(gt=0, le=1)]
EXECUTOR_KEYS = {f"executor.{key}" for name in BUILT_IN for key in executor_values(name)[name]}


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base.

    Attributes:
        first, second: told once, over
            two lines with ``code: and a colon``.
        third: of the base.

    Source: none.
    """

    first: int = 1
    second: BOUNDED | None = None
    third: str = "a"


@dataclass(frozen=True, kw_only=True)
class Derived(Base):
    """Attributes are those of both.

    Attributes:
        third: of the derived one.
    """

    fourth: int = Field(default=1, description="in its field")


def test_attributes_are_read_from_docstrings_of_bases_and_from_fields():
    assert attributes(Derived) == {
        "first": "told once, over two lines with `code: and a colon`.",
        "second": "told once, over two lines with `code: and a colon`.",
        "third": "of the derived one.",
        "fourth": "in its field",
    }


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "integer"),
        (BOUNDED, "number above 0 and at most 1"),
        (Literal["a", "b", "c"], "`a`, `b` or `c`"),
        (Literal["auto"] | BOUNDED, "`auto` or number above 0 and at most 1"),
        (str | None, "text or `null`"),
        (tuple[BOUNDED, ...] | None, "list of number above 0 and at most 1 or `null`"),
        (Mapping[str, int], "keys and values"),
        (bool, "`true` or `false`"),
    ],
)
def test_a_type_in_words(annotation, words):
    assert in_words(annotation) == words


def test_every_key_is_listed():
    listed = {path for path, _ in LISTED}
    options = {field.name for kind in (LaunchOptions, TrainOptions) for field in dataclasses.fields(kind)}
    search = {f"search.{field.name}" for field in dataclasses.fields(SearchConfig)}
    run = set(flattened(demo().to_dict()))
    assert run | options | search | EXECUTOR_KEYS <= listed
    of_run = {path for path in listed if "." in path and not path.startswith(("search.", "executor.", "sweep."))}
    assert of_run - run == {"prefix.parameters"}, "those of plug-ins, which have names of their own"


def test_what_is_shown_of_a_key_can_be_typed_and_is_its_value_at_demo():
    expected, words = flattened(demo().to_dict()), []
    for path, text in LISTED:
        default, at_demo = re.search(rf"; {DEFAULT}\.(?: |$)", text).groups()
        shown = default if at_demo is None else at_demo
        if path in expected and path != "scale" and shown != '""':  # those are filled in
            words.append(f"{path}={shown}")
    found = flattened(run_config(compose(words, defaults={"scale": "demo"})).to_dict())
    assert len(words) > 100
    for path, value in expected.items():
        assert found[path] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), path
    without = [path for path, text in LISTED if re.search(rf"; {DEFAULT}\.$", text)]
    assert len(without) < len(LISTED) / 5, "most keys have a text"


def test_every_study_has_a_page_with_its_arms_their_values_and_claims():
    for name in FILES:
        study = STUDIES[name]
        page = PAGES[f"reference/studies/{name}.md"]
        assert f"[`{name}`]({name}.md)" in PAGES["reference/studies/index.md"]
        assert study.question in page
        assert f"`{study.primary_metric}`" in page
        for arm in study.arms:
            assert f"| `{arm}` | " in page
        for claim, expectations in study.claims.items():
            assert f"**{claim}**" in page
            assert all(metric in page for one in expectations for metric in one.metrics)
    shown = re.search(r"\| `fixed_50` \|.*?\|(.*?)\|", PAGES["reference/studies/prefix_ratio.md"])[1]
    assert re.findall(r"`(.*?)`", shown) == ["prefix.law=fixed", "prefix.fraction=0.5"]


def test_every_metric_is_listed():
    page = PAGES["reference/metrics.md"]
    for one in FINAL:
        assert re.search(rf"^\| `{re.escape(one.name)}`.*\| {re.escape(one.unit)} \|", page, flags=re.MULTILINE)
    families = [re.sub(r"<.*?>", ".+", name) for name in re.findall(r"^\| `(.*?)`\{", page, flags=re.MULTILINE)]
    assert all(any(re.fullmatch(family, metric) for family in families) for metric in metric_names(demo()))


def test_every_claim_has_its_statement_and_its_verdict_or_why_there_is_none():
    page = PAGES["reference/claims.md"]
    parts = dict(re.findall(r"^### ([\w-]+) \{ #\1 \}\n\n(.*?)(?=^##|\Z)", page, flags=re.MULTILINE | re.DOTALL))
    assert set(parts) == set(CLAIMS)
    for name, claim in CLAIMS.items():
        assert parts[name].startswith(claim.statement.strip())
        assert "**Verdict.**" in parts[name] or claim.part_of
        assert "**By study.**" in parts[name] or claim.why_not
    assert "- **Verdict.** **supported**" in parts["uniform-prefix-length"]
