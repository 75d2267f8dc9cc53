"""Records of runs with known times."""

import json
from dataclasses import replace

import pytest

from aimv2.config.paths import to_dict
from aimv2.config.signature import signature


@pytest.fixture
def tiny(tiny, tmp_path):
    """With a cache folder of its own."""
    return replace(tiny, data=replace(tiny.data, cache_dir=str(tmp_path / "cache")))


@pytest.fixture
def record(tmp_path):
    """Write the record of a run that started for 1 s, measured a curve for 4 s, and was evaluated for ``evaluation``
    s; its CPU time is half of that."""

    def write(config, *, speed=100.0, evaluation=10.0):
        run = tmp_path / signature(config)
        attempt = run / "attempts" / "0002"
        attempt.mkdir(parents=True, exist_ok=True)
        samples, rows = config.budget.samples, []
        if samples:
            step = {"images_per_second": speed, "step_cpu_seconds": 0.5 * config.budget.batch_size / speed}
            rows = [{"step": 0, "seconds": 1.0}] + [{"step": n} | step for n in (1, 2, 3)]
            rows[1]["images_per_second"] = speed / 10  # the first step warms up
        train_seconds = 1.0 + (samples / speed + 4.0 if samples else 0.0)
        seconds = {"seconds": train_seconds + evaluation, "train_seconds": train_seconds}
        seconds |= {"cpu_seconds": seconds["seconds"] / 2, "train_cpu_seconds": samples / speed / 2}  # of all steps
        files = {run / "config.json": to_dict(config), run / "result.json": {"attempt": 2} | seconds}
        for path, values in files.items():
            path.write_text(json.dumps(values))
        (attempt / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run

    return write
