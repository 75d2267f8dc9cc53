"""Where workers run: executors, of which the built-in ones are named here without being imported."""

from collections.abc import Mapping

BUILT_IN: Mapping[str, str] = {
    "debug": "aimv2.sweeps.executors.local:DebugExecutor",
    "local": "aimv2.sweeps.executors.local:LocalExecutor",
    "slurm": "aimv2.sweeps.executors.slurm:SlurmExecutor",
}
