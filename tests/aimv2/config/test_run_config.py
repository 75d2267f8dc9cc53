"""Checks of a run that need several of its parts, and the steps that follow from its length."""

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import SCALES, demo
from aimv2.config.run_config import RunConfig
from tests.helpers.config import changed


@pytest.mark.parametrize(
    ("num_steps", "curve_points", "curve_steps"),
    [(12, 4, (0, 4, 8, 12)), (10, 4, (0, 3, 7, 10)), (2, 4, (0, 1, 2)), (0, 4, (0,))],
)
def test_curve_is_measured_at_equal_distances_from_the_first_step_to_the_last(num_steps, curve_points, curve_steps):
    values = {"budget.samples": num_steps * demo().budget.batch_size, "evaluation.curve_points": curve_points}
    assert replaced(demo(), values).curve_steps == curve_steps


@pytest.mark.parametrize("recipe", SCALES.values(), ids=SCALES)
def test_dict_round_trip_keeps_every_recipe(recipe):
    assert RunConfig.from_dict(recipe().to_dict()) == recipe()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.encoder.widht", 3, r"key 'model.encoder.widht'. Did you mean 'model.encoder.width'\? Allowed: "),
        ("model.encoder.width", "wide", r"model.encoder.width: .*integer.*'wide'"),
        ("model.encoder.width", 97, "model.encoder: width=97 is not divisible by num_heads=6"),
        ("model.patch_px", 5, "model: image_px=32 is not a multiple of patch_px=5"),
        ("model.patch_px", 32, "makes one patch"),
        ("prefix.fraction", 0.5, "^prefix.law=uniform has no fraction; prefix.fraction belongs to prefix.law=fixed$"),
        ("prefix.per", "step", r"prefix.per: Input should be 'image' or 'batch' \(got 'step'\)$"),
        ("prefix.per", "imge", r"\(got 'imge'\). Did you mean 'image'\?$"),
        ("data.sources", "own.yaml", r"^data.sources is a list: write data.sources=\[own.yaml\]$"),
        ("data.sources", [], r"data: sources=\[\] must name at least one"),
        ("data.sources", ["imagenet"], "'imagenet'. Allowed: material_scenes, .*, openmoji, or the path of a .yaml"),
        ("data.sources", ["material", "openmojis"], r"unknown source 'openmojis'. Did you mean 'openmoji'\?"),
        ("ranks", 3, "budget.batch_size=16 is not divisible by ranks=3"),
        ("data.canonical_nodes", 3, "batch_size=16 is not divisible by data.canonical_nodes=3"),
        ("data.render_px", 16, "data.render_px=16 is smaller than model.image_px=32"),
        ("evaluation.probe.head_dim", 64, "model.encoder.width=96 is not divisible by evaluation.probe.head_dim=64"),
        ("augment.min_ratio", 2.0, "min_ratio must not exceed max_ratio"),
        ("budget.samples", 100, "samples=100 is not a multiple of batch_size=16; the nearest are 96 and 112"),
        ("optimizer.peak_lr", float("nan"), "optimizer.peak_lr: Input should be a finite number"),
        ("evaluation.knn_neighbours", 1001, "evaluation.knn_neighbours: Input should be less than or equal to 1000"),
        ("evaluation.prefix_fractions", [0.5, 1.0], "evaluation.prefix_fractions.1: Input should be less than 1"),
        ("evaluation.probe.learning_rates", [], "evaluation.probe.learning_rates: Tuple should have at least 1 item"),
        ("micro_batch", "all", "micro_batch: Input should be 'auto' or a valid integer"),
        ("micro_batch", 0, "micro_batch: Input should be 'auto' or greater than 0"),
        ("compile", "some", "compile: Input should be 'auto' or a valid boolean"),
        ("seed", "many", r"^seed: Input should be a valid integer \(got 'many'\)$"),
    ],
)
def test_from_dict_names_an_invalid_value_in_one_sentence(key, value, message):
    with pytest.raises(UsageError, match=message) as caught:
        RunConfig.from_dict(changed(key, value))
    assert "\n" not in str(caught.value)


def test_values_of_removed_features_in_stored_configs_are_left_out():
    stored = demo().to_dict() | {"attention_kernel": "flex"}
    stored["log"] = stored["log"] | {"wandb": True, "picture_points": 3, "mlflow": True}
    assert RunConfig.from_dict(stored) == demo()


@pytest.mark.parametrize(("part", "key"), [("start", "teacher"), ("evaluation", "alone")])
def test_stored_configs_that_removed_features_decided_are_refused(part, key):
    stored = demo().to_dict()
    assert RunConfig.from_dict(stored | {part: stored[part] | {key: None}}) == demo()
    with pytest.raises(UsageError, match=f"{part}.{key} was removed, and this version cannot execute the run"):
        RunConfig.from_dict(stored | {part: stored[part] | {key: {"run": "v2-15b6f82b08fe"}}})
