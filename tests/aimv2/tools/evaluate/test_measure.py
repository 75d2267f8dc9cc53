from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.datasets.description import LabelledDescription, Location
from aimv2.tools.evaluate.measure import chosen_methods
from aimv2.tools.evaluate.models import load_model

PLACE = Location(folder="images")


def described(**values):
    return LabelledDescription(test=PLACE, name="things", label="folder", **values)


def test_methods_are_those_that_set_and_weights_allow(public, pair):
    alone, both, trained = load_model(public[0]), load_model(pair[0]), described(train=PLACE)
    assert chosen_methods(trained, both, None) == ["probe", "linear", "knn", "zero_shot"]
    assert chosen_methods(trained, alone, None) == ["probe", "linear", "knn"]
    assert chosen_methods(trained, both, None, has_area=True) == ["linear", "knn", "zero_shot"]
    assert chosen_methods(described(), both, None) == ["zero_shot"]
    assert chosen_methods(trained, both, ["zero_shot", "knn", "knn"]) == ["knn", "zero_shot"]
    with pytest.raises(UsageError, match="nothing can be measured: things has no train; aimv2-tiny has an image"):
        chosen_methods(described(), alone, None)
    with pytest.raises(UsageError, match=r"a text encoder but no tokenizer\.json beside it; give tokenizer=PATH"):
        chosen_methods(trained, replace(both, tokenizer=None), ["zero_shot"])
    with pytest.raises(UsageError, match="methods: linear is not possible, because things has no train"):
        chosen_methods(described(), both, ["linear"])
