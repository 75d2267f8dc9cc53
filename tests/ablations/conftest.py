import pytest

from aimv2.ablations.catalogue import STUDIES


@pytest.fixture(scope="session")
def study():
    return STUDIES["prefix_ratio"]
