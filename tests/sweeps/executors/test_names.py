from pkgutil import resolve_name

from aimv2.sweeps.executors.base import Executor
from aimv2.sweeps.executors.names import BUILT_IN


def test_every_executor_of_ours_can_be_loaded():
    assert all(issubclass(resolve_name(where), Executor) for name, where in BUILT_IN.items() if name != "ray")
