"""Executors: places where workers run. Each is a ``base.Executor``, which ``registry.py`` lists."""
