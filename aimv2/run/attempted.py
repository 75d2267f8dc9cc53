"""What every attempt does, whatever its program: it publishes a result, or records why there is none."""

import traceback
from collections.abc import Callable

from aimv2.memory.cgroup import oom_kills
from aimv2.runs.attempt import Attempt
from aimv2.runs.failure import Failure, cause_of, sentence_of
from aimv2.runs.lease import LeaseLostError


def attempted(attempt: Attempt, work: Callable[[], None]) -> Failure | None:
    """Do the work of an attempt, which publishes the result; record its failure.

    Returns:
        None if the result is published, else the failure. It is also in the attempt's ``failure.json`` if the folder is
        writable.

    Raises:
        KeyboardInterrupt: the run was interrupted and released.
        LeaseLostError: another process has taken over the run.
    """
    kills = oom_kills()
    try:
        with attempt:
            try:
                work()
            except LeaseLostError:
                raise
            except Exception as error:
                failure = Failure(cause_of(error, attempt.run, oom_kills=kills), sentence_of(error))
                attempt.fail(failure, traceback.format_exc())
                return failure
    except OSError as error:  # from the attempt's folder: nothing can be recorded there
        return Failure(cause_of(error, attempt.run), sentence_of(error))
    return None
