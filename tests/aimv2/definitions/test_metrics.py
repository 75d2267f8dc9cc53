"""Names, units and directions of metrics."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.plugins import using
from aimv2.config.program import replaced
from aimv2.data import transfer
from aimv2.definitions.items import Items
from aimv2.definitions.metrics import (
    EMOJI_TASKS,
    SCENE_TASKS,
    Definition,
    Metric,
    PluginMetric,
    know,
    lower_is_better,
    metric_names,
    not_applicable,
    recorded_metrics,
    unit_of,
)
from aimv2.definitions.objectives import objective
from tests.helpers.own_data import write


@pytest.mark.parametrize(
    ("metric", "unit", "is_lower_better"),
    [
        ("caption_loss", "nats/token", True),
        ("causal_content_loss", "nats/token", True),
        ("caption_bits", "bits/byte", True),
        ("pixel_loss_0.5", "squared error of standardised pixels", True),
        ("raw_pixel_loss_1e-05", "squared error of raw pixels", True),
        ("image_to_text_recall_5", "accuracy", False),
        ("probe_digits", "accuracy", False),
        ("knn_emoji_category", "accuracy", False),
        ("content_loss", "nats/token", True),
        ("content_loss_relation", "nats/token", True),
        ("image_gain_ink", "nats/token", False),
        ("causal_probe_object", "accuracy", False),
    ],
)
def test_metric_has_one_unit_and_direction(metric, unit, is_lower_better):
    assert unit_of(metric) == unit
    assert lower_is_better(metric) is is_lower_better


@pytest.mark.parametrize(
    "metric", ["my_loss", "probe_", "pixel_loss_half", "pixel_loss", "caption_loss_0.5", "content_loss_other", ""]
)
def test_unknown_metric_is_refused(metric):
    for look_up in (unit_of, lower_is_better):
        with pytest.raises(UsageError, match=f"unknown metric '{metric}'"):
            look_up(metric)


def test_every_final_metric_is_defined(tiny):
    names = metric_names(tiny)
    assert len(set(names)) == len(names)
    assert all(unit_of(name) for name in names)
    causal = {name for name in names if name.startswith("causal_probe")}
    assert causal == {f"causal_probe_{task}" for task in SCENE_TASKS}


@pytest.fixture
def alone(tiny):
    """The tiny run without a reader."""
    return replaced(tiny, {"evaluation.reader.samples": 0})


def absent(config, **data):
    config = replace(config, data=replace(config.data, **data))
    return {
        name for name in not_applicable(objective("aimv2"), config) if "data without" in metric_reason(config, name)
    }


def metric_reason(config, name):
    return not_applicable(objective("aimv2"), config)[name].evaluation


def test_metrics_need_their_data(alone):
    starts = ("probe", "knn")
    emoji = {f"{start}_emoji_{label}" for start in starts for label in ("category", "subcategory")}
    of_scenes = {f"{start}_{task}" for start in (*starts, "causal_probe") for task in SCENE_TASKS}
    of_scenes |= {
        f"{name}_{kind}" for name in ("content_loss", "image_gain") for kind in ("place", "relation", "count")
    }
    of_scenes.add("unseen_content_loss")
    assert absent(alone, sources=("material_scenes", "openmoji_scenes")) == emoji
    assert absent(alone, sources=("material",)) == emoji | of_scenes
    assert absent(alone, sources=("openmoji",)) == of_scenes
    assert metric_reason(alone, "probe_emoji_category") == "not applicable to data without emoji"
    of_words = {f"{name}_{kind}" for name in ("content_loss", "image_gain") for kind in ("object", "ink")}
    assert absent(alone, sources=("/data/cc3m.yaml",)) == emoji | of_scenes | of_words, "pairs in files"


def test_answers_need_a_reader_that_is_asked_and_data_with_questions(alone, tmp_path):
    every = {"reader_answers", "reader_answers_chance", "reader_answers_blind", "reader_pointing", "reader_answers_ink"}
    reason = "not applicable to a run without a reader (evaluation.reader.samples=0)"
    assert metric_reason(alone, "reader_answers") == reason
    read = replaced(alone, {"evaluation.reader.samples": 64})
    reason = "not applicable to a run that asks its reader nothing (evaluation.reader.questions=0)"
    assert metric_reason(read, "reader_pointing") == reason
    asked = replaced(read, {"evaluation.reader.questions": 64})
    assert every <= set(metric_names(asked))
    assert not every & absent(asked)
    assert every <= absent(asked, sources=("openmoji",))
    assert metric_reason(replaced(asked, {"data.sources": ("openmoji",)}), "reader_answers").endswith(
        "without questions"
    )
    files = {}
    for name, questions in (("plain", {}), ("asked", {"questions": "json.qa"})):
        files[name] = str(write(tmp_path / f"{name}.yaml", yaml.safe_dump({"folder": "x", "short": "txt"} | questions)))
    assert every <= absent(asked, sources=(files["plain"],))
    assert every & absent(asked, sources=(files["asked"],)) == {"reader_pointing", "reader_answers_ink"}


def test_labelled_sets_have_probes_but_no_causal_ones(tiny):
    config = replaced(tiny, {"evaluation.sets": ("/sets/imagenet-1k.yaml", "pets.v2.yaml")})
    new = set(metric_names(config)) - set(metric_names(tiny))
    assert new == {f"{kind}_{name}" for kind in ("probe", "knn") for name in ("imagenet_1k", "pets_v2")}
    assert {unit_of(name) for name in new} == {"accuracy"}
    assert not new & set(not_applicable(objective("aimv2"), config))


@pytest.mark.parametrize("sets", [("digits.yaml",), ("a/pets.yaml", "b/pets.yaml"), ("object.yaml",)])
def test_labelled_set_with_a_name_that_is_taken_is_refused(tiny, sets):
    with pytest.raises(UsageError, match=r"evaluation\.sets: a task is called '\w+' already"):
        metric_names(replaced(tiny, {"evaluation.sets": sets}))


def test_metric_is_written_without_its_items():
    items = Items.of(np.array([1]), np.array([0.5]))
    metric = Metric(0.5, "accuracy", "a test", "doubtful", items)
    assert metric.to_json() == {"value": 0.5, "unit": "accuracy", "evaluation": "a test", "warning": "doubtful"}
    assert metric == Metric(0.5, "accuracy", "a test", "doubtful")


def test_names_of_tasks_are_those_that_are_measured(tiny, pairs):
    held_out = transfer.Tested(pairs.held_out.subset(9), np.zeros((9, 1, 1, 3), dtype=np.uint8))
    measured = transfer.scenes(pairs.train.subset(40), held_out)
    assert tuple(task.name for task in measured.tasks) == SCENE_TASKS
    assert tuple(f"emoji_{label}" for label in transfer.EMOJI_LABELS) == EMOJI_TASKS


def test_a_metric_of_records_is_known_until_the_command_ends():
    metric = Definition("cka", "similarity", False)
    with using([]):
        know(metric)
        with using([]):
            know(metric._replace(unit="share"))
            assert unit_of("cka") == "share"
        assert unit_of("cka") == "similarity"
    assert "cka" not in recorded_metrics()


def of(found):
    def measure(model):
        if isinstance(found, Exception):
            raise found
        return found

    return PluginMetric("cka", "share", lower_is_better=False, measure=measure)


@pytest.mark.parametrize("found", [2, 2.0, np.float32(2), np.array(2.0), torch.tensor(2.0)])
def test_numbers_and_items_are_values(found):
    value = of(found).value_of(None)
    assert type(value) is float
    assert value == 2
    items = Items.of([3, 4], [1, 0], [1, 3])
    assert of(items).value_of(None) is items


@pytest.mark.parametrize(
    ("found", "cause", "message"),
    [
        (float("nan"), "not finite", "metric cka is nan after training"),
        (torch.tensor(float("inf")), "not finite", "metric cka is inf after training"),
        (Items.of([1], [float("nan")]), "not finite", "metric cka is nan after training"),
        (Items.of([1], [1], [0]), "not finite", "metric cka has no items"),
        (None, "bug", "metric cka returned None, which is neither a number nor Items"),
        ("0.5", "bug", "metric cka returned '0.5', which is neither"),
        (np.ones(1), "bug", "metric cka returned array([1.]), which is neither"),
        ([[1], [1, 2]], "bug", "metric cka returned [[1], [1, 2]], which is neither"),
        (torch.ones(2), "bug", "metric cka returned tensor([1., 1.]), which is neither"),
        (ZeroDivisionError("no images"), "bug", "metric cka: ZeroDivisionError: no images"),
    ],
)
def test_anything_else_fails_the_run(found, cause, message):
    with pytest.raises(RunFailedError, match=re.escape(message)) as caught:
        of(found).value_of(None)
    assert caught.value.cause == cause
