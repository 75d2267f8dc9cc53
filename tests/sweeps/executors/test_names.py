from aimv2.sweeps.executors.names import BUILT_IN, executor_names


def test_every_executor_of_ours_can_be_loaded():
    assert {"local", "slurm", "ray", "debug"} == set(BUILT_IN)
    assert all(name in executor_names() for name in BUILT_IN)
    assert [entry.load().__name__ for name, entry in BUILT_IN.items() if name != "ray"] == [
        *("DebugExecutor", "LocalExecutor", "SlurmExecutor"),
    ]
