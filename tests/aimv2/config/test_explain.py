from typing import Literal

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aimv2.config.data_config import CHECKED
from aimv2.config.explain import explain


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Part:
    width: int = 1
    kind: Literal["wide", "deep"] = "wide"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Whole:
    part: Part = Part()
    sizes: tuple[int, ...] = (1,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"part": {"wdth": 2}}, "unknown key 'part.wdth'. Did you mean 'part.width'? Allowed: part.kind, part.width."),
        ({"part": {"width": "x"}}, "part.width: Input should be a valid integer (got 'x')"),
        ({"part": {"kind": "wied"}}, "part.kind: Input should be 'wide' or 'deep' (got 'wied'). Did you mean 'wide'?"),
        ({"sizes": 3}, "sizes is a list: write sizes=[3]"),
    ],
)
def test_a_refused_value_is_one_sentence(values, message):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Whole).validate_python(values)
    assert str(explain(caught.value, Whole)) == message
