"""The registry, and a seventh objective added as ``docs/extend.md`` shows."""

import re
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from aimv2.base.errors import UsageError
from aimv2.base.plugins import using
from aimv2.config.training_config import NUM_MOMENTS, ObjectiveConfig
from aimv2.definitions.metrics import REPORTS
from aimv2.definitions.objectives import OBJECTIVES, objective
from aimv2.definitions.programs import with_plugins
from aimv2.evaluation.evaluate import evaluate
from aimv2.objectives.base import Implementation
from aimv2.objectives.build import build, implementation_of
from aimv2.request.resolve import with_attention
from aimv2.run.execute import execute
from aimv2.runs.record import RunFolder
from aimv2.training.optimizer import build_optimizer
from tests.helpers.native import at_native

PAGE = Path(__file__).parents[3] / "docs" / "extend.md"
NEW_FILE = re.compile(r"^`(smoothed/\w+\.py)`:\n\n```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def seventh(tmp_path):
    """The name of the objective of the page, while its folder is loaded."""
    (tmp_path / "smoothed").mkdir()
    for name, text in NEW_FILE.findall(PAGE.read_text()):
        (tmp_path / name).write_text(text)
    with using([tmp_path / "smoothed"]):
        yield "smoothed_caption"


def test_objective_of_the_page_trains_evaluates_and_has_a_cost(seventh, tiny, tmp_path):
    config = with_plugins(with_attention(replace(tiny, objective=replace(tiny.objective, name=seventh))))
    objective(seventh).check(config)
    run = RunFolder(tmp_path / "runs", config.name)
    without_probes = partial(evaluate, transfer=lambda *data: [])
    assert execute(run.acquire(config), config, evaluate=without_probes) is None
    result = run.result()
    assert result["train_flops"] > 0
    assert result["metrics"]["caption_loss"]["value"] > 0
    assert result["metrics"]["pixel_loss_0.5"]["value"] is None
    assert (run.metrics()["smoothed_loss"].dropna() > 0).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_specification_is_complete(name):
    goal = objective(name)
    assert issubclass(implementation_of(goal), Implementation)
    assert goal.attention in ("prefix", "bidirectional")
    assert goal.reports
    assert set(goal.reports) <= set(REPORTS)
    assert set(goal.reads) < {field.name for field in fields(ObjectiveConfig)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model.encoder.positions": "learned"},
            "model.encoder.positions='learned' .* at native resolution .*'sincos'",
        ),
        ({"model.patch_order": "spiral"}, "model.patch_order='spiral' .* only 'raster' is possible"),
        ({"model.decoder.order": "text_first"}, "model.decoder.order='text_first' .* only 'image_first' is possible"),
        ({"model.decoder.image_positions": True}, "model.decoder.image_positions=True .* only False is possible"),
        ({"augment.hidden_fraction": 0.5}, r"augment.hidden_fraction=0.5 .* only 0 is possible"),
        ({"data.pixels": "shuffled"}, "data.pixels='shuffled' .* only 'own' is possible"),
        (
            {"model.encoder.attention": "bidirectional"},
            "attention='bidirectional' .* padding .* objective.name=aimv2 or caption or image_only with attention=",
        ),
        (
            {"objective.name": "clip", "model.encoder.attention": "bidirectional"},
            "objective.name='clip' .* the padding",
        ),
        ({"objective.name": "cappa"}, "objective.name='cappa' and attention='prefix' .* the padding"),
    ],
    ids=str,
)
def test_native_resolution_is_refused_where_it_does_not_fit(tiny, values, message):
    config = at_native(tiny)
    objective("aimv2").check(config)
    config = at_native(tiny, **values)
    with pytest.raises(UsageError, match=message):
        objective(config.objective.name).check(config)


@pytest.mark.parametrize("name", ["aimv2", "caption", "image_only"])
@pytest.mark.parametrize("attention", ["prefix", "causal"])
def test_native_resolution_is_possible_where_masks_hide_the_padding(tiny, name, attention):
    objective(name).check(at_native(tiny, **{"objective.name": name, "model.encoder.attention": attention}))


def test_an_optimizer_holds_as_many_moments_as_are_priced(tiny):
    model = build(tiny)
    optimizer = build_optimizer(model, tiny.optimizer)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    sizes = sum(parameter.numel() for parameter in model.parameters())
    state = [value for one in optimizer.state.values() for key, value in one.items() if key != "step"]
    assert sum(value.numel() for value in state) == NUM_MOMENTS * sizes
    assert {value.dtype for value in state} <= {torch.float32}
