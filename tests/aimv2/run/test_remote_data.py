"""Runs on shards of a web server that fails, or changes a shard, while they train."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from aimv2.config.program import replaced
from aimv2.data.prepare import order_of, prepare
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from aimv2.request.resolve import resolve
from aimv2.run.execute import execute, prepared_pairs
from aimv2.runs.record import RunFolder
from tests.helpers.own_data import write
from tests.helpers.shards import write_pictured_shards
from tests.helpers.web_server import serving

SHARDS, PAIRS = 12, 16


@pytest.fixture
def planned(tiny, tmp_path):
    """Yield a server of shards, and a function that returns a run on them with a cache of its own."""
    folder = tmp_path / "shards"
    pattern = write_pictured_shards(folder, SHARDS, PAIRS)
    with serving(folder) as server:
        values = {"shards": f"{server.url}/{pattern}", "short": "txt"}
        path = write(tmp_path / "own.yaml", yaml.safe_dump(values))
        prepare_location(read_source(path))

        def plan(name):
            data = {"data.sources": (str(path),), "data.cache_dir": str(tmp_path / name)}
            budget = replace(tiny.budget, samples=160)
            config = resolve(replaced(tiny, {**data, "budget": budget}))
            return config, RunFolder(tmp_path / name / "runs", config.name)

        yield server, plan


@pytest.mark.exhaustive
def test_a_run_whose_server_fails_goes_on_when_it_works_again(planned, tmp_path):
    server, plan = planned
    config, undisturbed = plan("undisturbed")
    assert execute(undisturbed.acquire(config), config) is None
    train = prepare(config.data, config.model.vocab_size).train
    _, rows = order_of(config.data, train).at(np.arange(config.budget.samples), seed=config.seed)
    shards = [int(key) // PAIRS for key in train.keys(rows)]
    last = list(dict.fromkeys(shards))[-1]
    assert shards.index(last) >= config.budget.batch_size, "the first step does not need it"
    prepared_pairs.cache_clear()  # as in a new process
    shutil.rmtree(tmp_path / "undisturbed/shards")
    run = RunFolder(tmp_path / "runs", undisturbed.name)

    server.before = lambda path, _: 503 if path == f"/{last:02}.tar" else None
    failure = execute(run.acquire(config), config)
    assert failure.cause == "node"
    assert (
        "cannot be read: the server answers 503 Service Unavailable; retry when its disk or server" in failure.message
    )
    server.before = lambda *_: None
    assert execute(run.acquire(config), config) is None
    assert run.result()["metrics"] == undisturbed.result()["metrics"]
    assert run.num_attempts == 2


def test_a_shard_that_the_server_changes_fails_the_run(planned):
    server, plan = planned
    config, run = plan("changed")
    shard = server.folder / "03.tar"
    shard.write_bytes(shard.read_bytes().replace(b"number 5", b"NUMBER 5"))
    failure = execute(run.acquire(config), config)
    assert failure.cause == "data"
    assert "03.tar" in failure.message
    assert "run python -m aimv2 data index" in failure.message
