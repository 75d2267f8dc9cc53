import pytest

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import SCALES
from aimv2.config.serialization import from_dict, to_dict
from tests.helpers.config import changed


@pytest.mark.parametrize("recipe", SCALES.values(), ids=SCALES)
def test_dict_round_trip_keeps_every_recipe(recipe):
    assert from_dict(to_dict(recipe())) == recipe()


def test_keys_of_trackers_that_are_gone_are_dropped_from_stored_configs_and_no_others():
    """Older versions could send rows to MLflow and Trackio, and every stored config has their keys."""
    recipe = SCALES["demo"]()
    values = to_dict(recipe)
    assert from_dict(values | {"log": values["log"] | {"mlflow": "http://host", "trackio": True}}) == recipe
    with pytest.raises(UsageError, match=r"unknown key 'log.aim'"):
        from_dict(changed("log.aim", "x"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "model.encoder.widht",
            3,
            r"unknown key 'model.encoder.widht'. Did you mean 'model.encoder.width'\? Allowed: ",
        ),
        ("model.encoder.width", "wide", r"model.encoder.width: .*integer.*'wide'"),
        ("model.encoder.width", 97, "model.encoder: width=97 is not divisible by num_heads=6"),
        ("model.patch_px", 5, "model: image_px=32 is not a multiple of patch_px=5"),
        ("model.patch_px", 32, "makes one patch"),
        ("prefix.fraction", 0.5, "^prefix.law=uniform has no fraction; prefix.fraction belongs to prefix.law=fixed$"),
        ("prefix.per", "step", r"prefix.per: Input should be 'image' or 'batch' \(got 'step'\)$"),
        ("prefix.per", "imge", r"\(got 'imge'\). Did you mean 'image'\?$"),
        ("data.sources", "own.yaml", r"^data.sources is a list: write data.sources=\[own.yaml\]$"),
        ("data.sources", [], r"data: sources=\[\] must name at least one"),
        (
            "data.sources",
            ["imagenet"],
            "unknown source 'imagenet'. Allowed: material_scenes, .*, openmoji, or the path of a .yaml file",
        ),
        (
            "data.sources",
            ["material", "openmojis"],
            r"unknown source 'openmojis'. Did you mean 'openmoji'\?",
        ),
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
        from_dict(changed(key, value))
    assert "\n" not in str(caught.value)
