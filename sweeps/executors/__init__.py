"""Executors: places where workers run. Each is a ``base.Executor``, built from ``sweeps/conf/executor/NAME.yaml``."""
