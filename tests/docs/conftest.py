"""Pages for users without a clone are followed with the code of the wheel."""

import pytest

from tests.helpers.wheel import build_wheel, environment_of


@pytest.fixture(scope="session")
def of_wheel(tmp_path_factory):
    """The variables of processes that import the wheel."""
    return environment_of(build_wheel(tmp_path_factory.mktemp("build")), tmp_path_factory.mktemp("wheel"))
