"""Refusals of commands."""

import pytest

from aimv2.base.errors import UsageError


@pytest.fixture(scope="session")
def refusal():
    """Return the one sentence with which a call is refused."""

    def refused(call, *arguments, **options):
        with pytest.raises(UsageError) as caught:
            call(*arguments, **options)
        message = str(caught.value)
        assert "\n" not in message
        assert "\x1b" not in message
        assert len(message) < 1000
        return message

    return refused
