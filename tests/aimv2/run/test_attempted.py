"""Every attempt publishes a result or records why there is none."""

import pytest

from aimv2.base.errors import RunFailedError
from aimv2.run.attempted import attempted
from aimv2.runs.lease import LeaseLostError
from aimv2.runs.record import RunFolder
from tests.helpers.other_model import Mean


@pytest.fixture
def attempt(tmp_path):
    return RunFolder(tmp_path, Mean().name).acquire(Mean())


def raising(error):
    def work():
        raise error

    return work


def test_what_ends_well_is_no_failure(attempt):
    done = []
    assert attempted(attempt, lambda: done.append(1)) is None
    assert done == [1]


def test_an_error_is_recorded_with_its_traceback(attempt):
    failure = attempted(attempt, raising(RunFailedError("not finite", "the loss is nan")))
    recorded = RunFolder(attempt.run.parent, attempt.run.name).failure()
    assert (failure.cause, failure.message) == ("not finite", "the loss is nan")
    assert recorded == failure
    assert "RunFailedError" in recorded.traceback


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LeaseLostError("lease lost", "taken")])
def test_a_run_that_is_left_is_no_failure(attempt, error):
    with pytest.raises(type(error)):
        attempted(attempt, raising(error))
    assert not (attempt.folder / "failure.json").exists()


def test_a_folder_that_cannot_be_written_is_a_failure_without_a_record(attempt):
    attempt.folder.joinpath("metrics.jsonl").mkdir()
    failure = attempted(attempt, lambda: None)
    assert failure.cause == "node"
    assert not (attempt.folder / "failure.json").exists()
