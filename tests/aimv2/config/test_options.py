"""Options of commands: what is read, what is refused, and the help."""

from typing import Literal

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError
from aimv2.config.data_config import CHECKED
from aimv2.config.options import defaults_of, options_of, read_options, usage


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Search:
    neighbours: tuple[int, ...] = Field(default=(1, 10), description="numbers of neighbours")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Measure:
    weights: str = Field(description="a finished run", examples=["PATH"])
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where it computes")
    workers: int = Field(default=0, ge=0, description="processes that decode images " * 5)
    crop: float | None = Field(default=None, gt=0, description="share of the image", examples=["0.875"])
    compiles: bool = Field(default=False, description="with compiled blocks")
    knn: Search = Search()


def test_options_are_read_with_their_types_and_groups():
    arguments = ["weights=runs/a=b", "workers=3", "crop=0.5", "compiles=true", "knn.neighbours=[5, 7]"]
    assert read_options(Measure, arguments) == Measure(
        weights="runs/a=b", workers=3, crop=0.5, compiles=True, knn=Search(neighbours=(5, 7))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "measure needs weights=PATH"),
        (["weights=a", "weights=b"], "weights= is given twice"),
        (["weights=a", "workers"], "cannot read 'workers': arguments have the form key=value"),
        (["weights=a", "worker=1"], "unknown key 'worker'. Did you mean 'workers'?"),
        (["weights=a", "knn.neighbour=1"], "Did you mean 'knn.neighbours'?"),
        (["weights=a", "workers=-1"], "workers: Input should be greater than or equal to 0 (got '-1')"),
        (["weights=a", "device=gpu"], "device: Input should be 'cpu' or 'cuda' (got 'gpu')"),
        (["weights=a", "knn.neighbours=3"], "knn.neighbours is a list: write knn.neighbours=[3]"),
        (["weights=a", "knn.neighbours=[3"], "knn.neighbours=[3 is not a list such as [1,2]"),
        (["weights=a", "workers="], "workers= has no value"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(arguments, message):
    with pytest.raises(UsageError) as caught:
        read_options(Measure, arguments, needs="measure needs")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_help_shows_each_option_with_its_default_or_an_example():
    lines = usage("measure weights=PATH", "Measure an\nencoder.", Measure).splitlines()
    assert lines[:4] == ["usage: measure weights=PATH", "", "Measure an encoder.", ""]
    assert lines[4] == "  weights=PATH                 a finished run"
    assert lines[5] == "  device=cpu                   where it computes"
    assert lines[6].startswith("  workers=0                    processes that decode")
    assert lines[7].startswith(" " * 31 + "processes")
    assert lines[-4] == "  crop=0.875                   share of the image"
    assert lines[-3] == "  compiles=false               with compiled blocks"
    assert lines[-2] == "  knn.neighbours=[1,10]        numbers of neighbours"
    assert lines[-1] == "  debug=true                   show the traceback of an error"
    assert max(map(len, lines)) <= 119


def test_defaults_and_values_of_a_composed_config():
    assert defaults_of(Search) == {"neighbours": (1, 10)}
    assert defaults_of(Measure)["weights"] is None
    assert options_of(Search, {"neighbours": [2], "other": 1}) == Search(neighbours=(2,))
    with pytest.raises(UsageError, match=r"neighbours.1: Input should be a valid integer"):
        options_of(Search, {"neighbours": [2, "x"]})
