from importlib.metadata import packages_distributions

import pytest

from analysis.costs.measuring.architectures import ARCHITECTURES
from analysis.costs.measuring.encoders import BUILD


def test_every_architecture_can_be_built():
    assert BUILD.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_package_is_of_the_distribution(name):
    one = ARCHITECTURES[name]
    assert one.distribution in packages_distributions()[one.package]
