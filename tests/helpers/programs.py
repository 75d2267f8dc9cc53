"""Programs that some tests need and not every machine has."""

import os

import pytest

REQUIRED = "REQUIRE_PROGRAMS"  # set in CI, which installs them


def skip_without(program, reason):
    """Skip the test if a program is absent; fail where programs are required."""
    if program:
        return
    if os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, but there is {reason}", pytrace=False)
    pytest.skip(reason)
