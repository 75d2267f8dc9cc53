"""A small run that has learnt enough to pass every check, made once, and variants of it."""

from dataclasses import replace

import pytest

from aimv2.config.resolve import with_attention
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature
from aimv2.execute import execute
from aimv2.model.network import build
from aimv2.runs.record import RunFolder
from analysis.verify.subject import load


@pytest.fixture(scope="session")
def trained(tiny) -> RunConfig:
    return replace(
        tiny,
        budget=replace(tiny.budget, samples=300 * 32, batch_size=32),
        optimizer=replace(tiny.optimizer, peak_lr=5e-3, warmup_fraction=0.1),
        evaluation=replace(tiny.evaluation, num_pairs=512, curve_points=4),
    )


@pytest.fixture(scope="session")
def finished(trained, tmp_path_factory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("verified"), signature(trained))
    assert execute(run.acquire(trained), trained, evaluate=lambda *data: {}) is None  # verify reads no metrics
    return run


@pytest.fixture(scope="session")
def subject(finished):
    """The run as it is; tests that change the network take ``variant``."""
    return load(finished)


@pytest.fixture(scope="session")
def variant(subject):
    """The run with another config, its network untrained, on fewer held-out pairs."""

    def make(*, num_pairs=48, encoder=None, decoder=None, model=None, prefix=None, objective=None, **changes):
        config = subject.config
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
        return replace(subject, config=config, model=build(config).eval(), held_out=subject.held_out.subset(num_pairs))

    return make


@pytest.fixture(scope="session")
def small(subject):
    """The trained network on fewer held-out pairs."""
    return replace(subject, held_out=subject.held_out.subset(48))
