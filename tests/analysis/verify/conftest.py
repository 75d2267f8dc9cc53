"""A small run that has learned enough to pass every check, trained once, and variants of it."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from aimv2.analysis.verify.__main__ import find, load
from aimv2.config.run_config import RunConfig
from aimv2.objectives.build import build
from aimv2.request.resolve import with_attention
from aimv2.runs.record import RunFolder
from tests.helpers.finished_runs import finished_run
from tests.helpers.training import run as train

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents and "finished" in item.fixturenames:  # which takes ten seconds
            item.add_marker(pytest.mark.exhaustive)


@pytest.fixture(scope="session")
def trained(tiny) -> RunConfig:
    return replace(
        tiny,
        budget=replace(tiny.budget, samples=200 * 32, batch_size=32),
        optimizer=replace(tiny.optimizer, peak_lr=5e-3, warmup_fraction=0.1),
        evaluation=replace(tiny.evaluation, num_pairs=256, curve_points=3),
    )


@pytest.fixture(scope="session")
def finished(trained, pairs, tmp_path_factory) -> RunFolder:
    model, rows, _ = train(trained, pairs)
    return finished_run(tmp_path_factory.mktemp("verified"), trained, model, rows=rows, tokenizer=pairs.tokenizer)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the run's folder, which a test may break."""
    return shutil.copytree(finished.path, tmp_path / "runs" / finished.name)


@pytest.fixture(scope="session")
def run(finished):
    """The trained run."""
    return load(find(str(finished.path), Path("runs")))


@pytest.fixture(scope="session")
def variant(run):
    """The run with another config, its network untrained."""

    def make(*, encoder=None, decoder=None, model=None, prefix=None, objective=None, **changes):
        config = run.config
        if encoder or decoder or model:
            parts = {
                "encoder": replace(config.model.encoder, **(encoder or {})),
                "decoder": replace(config.model.decoder, **(decoder or {})),
            }
            changes["model"] = replace(config.model, **parts, **(model or {}))
        if prefix:
            changes["prefix"] = replace(config.prefix, **prefix)
        if objective:
            changes["objective"] = replace(config.objective, **objective)
        config = with_attention(replace(config, **changes))
        return replace(run, config=config, model=build(config).eval())

    return make


@pytest.fixture(scope="session")
def broken():
    """A run whose encoder or decoder does something else in one method.

    ``broken(run, "decoder", "extend", change)`` calls ``change(original, *arguments)`` in place of ``original``.
    """

    def make(run, part, method, change):
        model = copy.deepcopy(run.model)
        original = getattr(getattr(model, part), method)
        setattr(getattr(model, part), method, lambda *values, **named: change(original, *values, **named))
        return replace(run, model=model)

    return make
