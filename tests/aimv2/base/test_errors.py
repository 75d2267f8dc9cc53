import pickle

import pytest

from aimv2.base.errors import RunFailedError, UsageError, did_you_mean, unknown


def test_unknown_suggests_the_closest_name_and_lists_all_once_in_order():
    error = unknown("sweep", "prefix_rato", ["prefix_ratio", "eos", "prefix_ratio"])
    assert isinstance(error, UsageError)
    assert str(error) == "unknown sweep 'prefix_rato'. Did you mean 'prefix_ratio'? Allowed: eos, prefix_ratio."


@pytest.mark.parametrize(("name", "suggestion"), [("eso", " Did you mean 'eos'?"), ("resolution", "")])
def test_did_you_mean_suggests_only_a_close_name(name, suggestion):
    assert did_you_mean(name, ["eos", "loss_form"]) == suggestion


def test_run_failed_error_passes_from_one_process_to_another():
    error = pickle.loads(pickle.dumps(RunFailedError("data", "the shard is gone")))
    assert (type(error), error.cause, str(error)) == (RunFailedError, "data", "the shard is gone")
