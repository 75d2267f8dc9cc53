import pytest

from aimv2.base.errors import UsageError
from aimv2.datasets.description import LabelledDescription, Location
from aimv2.tools.evaluate.measure import chosen_methods
from aimv2.tools.evaluate.models import load_model

PLACE = Location(folder="images")


def described(**values):
    return LabelledDescription(test=PLACE, name="things", **values)


@pytest.mark.parametrize(
    ("values", "alone", "pair"),
    [
        ({"label": "folder", "train": PLACE}, ["probe", "linear", "knn"], ["probe", "linear", "knn", "zero_shot"]),
        ({"label": "folder"}, None, ["zero_shot"]),
        ({"captions": "txt"}, None, ["retrieval"]),
        ({"captions": "txt", "label": "folder"}, None, ["zero_shot", "retrieval"]),
    ],
)
def test_methods_are_those_that_set_and_weights_allow(values, alone, pair, public, public_pair):
    assert chosen_methods(described(**values), load_model(public_pair[0]), None) == pair
    if alone is None:
        with pytest.raises(UsageError, match="nothing can be measured: things has no"):
            chosen_methods(described(**values), load_model(public[0]), None)
    else:
        assert chosen_methods(described(**values), load_model(public[0]), None) == alone


def test_a_wanted_method_that_is_not_possible_is_refused_with_the_reason(public_pair):
    model = load_model(public_pair[0])
    for values, method, reason in (
        ({"label": "folder"}, "linear", "things has no train"),
        ({"label": "folder"}, "retrieval", "things has no captions"),
        ({"captions": "txt"}, "zero_shot", "things has no label"),
    ):
        with pytest.raises(UsageError, match=f"methods: {method} is not possible, because {reason}"):
            chosen_methods(described(**values), model, [method])
    assert chosen_methods(described(label="folder"), model, ["zero_shot", "zero_shot"]) == ["zero_shot"]
