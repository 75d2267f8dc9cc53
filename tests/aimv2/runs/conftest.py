"""A run folder, and a function that finishes its run."""

import numpy as np
import pytest

from aimv2.definitions.items import Items
from aimv2.definitions.metrics import Metric
from aimv2.runs.record import RunFolder

ITEMS = Items.of(np.array([7, 2, 7]), np.array([1.0, 4.0, 1.0]), np.array([1, 2, 1]))
METRICS = {
    "caption_loss": Metric(1.5, "nats/token", "four pairs", items=ITEMS),
    "probe_digits": Metric(0.9, "accuracy", "ten digits", "doubtful"),
}
ROWS = [{"step": i, "samples": 8 * i, "train_flops": i, "seconds": float(i), "text_loss": 1 / i} for i in (1, 2)]


@pytest.fixture
def run(tmp_path, tiny):
    return RunFolder(tmp_path, tiny.name)


@pytest.fixture
def metrics():
    return METRICS


@pytest.fixture
def rows():
    return ROWS


@pytest.fixture
def finish():
    """Return a function that records a whole attempt at a run."""

    def finish(run, config):
        with run.acquire(config) as attempt:
            attempt.write_manifest({"host": "here", "code": "5f0c1b7de1a2"})
            attempt.write_rows(ROWS)
            attempt.publish(METRICS, train_flops=2)

    return finish
