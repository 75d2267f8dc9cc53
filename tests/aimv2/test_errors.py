import pytest

from aimv2.errors import RunFailedError, did_you_mean, given_twice, unknown


def test_unknown_suggests_the_closest_allowed_name_and_lists_all():
    assert str(unknown("scale", "dmeo", ["tiny", "demo"])) == (
        "unknown scale 'dmeo'. Did you mean 'demo'? Allowed: demo, tiny."
    )


@pytest.mark.parametrize("name", ["", "something else"])
def test_did_you_mean_is_empty_if_no_name_is_close(name):
    assert did_you_mean(name, ["tiny", "demo"]) == ""


def test_given_twice_names_the_key():
    assert str(given_twice("seed")) == "seed= is given twice; once is allowed"


def test_run_failed_error_has_a_cause_and_a_message():
    error = RunFailedError("not finite", "text_loss is nan at step 3")
    assert (error.cause, str(error)) == ("not finite", "text_loss is nan at step 3")
