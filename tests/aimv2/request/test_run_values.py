from aimv2.config.recipes import post_training, scales
from aimv2.request import run_values
from aimv2.spec import objectives


def test_the_help_names_what_exists():
    assert run_values.SCALES.split(", ") == list(scales.SCALES)
    assert run_values.OBJECTIVES.split(", ") == list(objectives.REGISTRY)
    assert run_values.RECIPES.split(", ") == list(post_training.RECIPES)
