import pytest

from ablations.catalogue import STUDIES


@pytest.fixture(scope="session")
def study():
    return STUDIES["prefix_ratio"]
