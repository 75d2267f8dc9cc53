from aimv2.config.recipes.post_training import RECIPES
from aimv2.config.recipes.scales import SCALES
from aimv2.definitions.objectives import OBJECTIVES
from aimv2.run import options
from aimv2.run.options import train_usage


def test_the_help_has_the_options_of_train_and_the_values_of_a_run():
    text = train_usage()
    assert text.startswith("usage: python -m aimv2 train [key=value ...]\n")
    assert all(key in text for key in ("runs_dir=runs", "limit=2h", "scale=demo", "8.6e+16 FLOPs"))


def test_the_help_names_what_exists():
    assert options.SCALES.split(", ") == list(SCALES)
    assert options.OBJECTIVES.split(", ") == list(OBJECTIVES)
    assert options.RECIPES.split(", ") == list(RECIPES)
