from rich.console import Console

from aimv2.config.evaluation_config import ProbeConfig
from aimv2.tools.evaluate.options import ProbeOptions
from aimv2.tools.evaluate.recipes import RECIPES, print_recipes


def test_recipes_are_those_of_the_papers_table_3():
    assert len(RECIPES) == 14
    # Read off the paper's table of AIMv2-3B, in its order.
    largest = [88.5, 81.5, 99.5, 94.3, 96.8, 88.9, 97.1, 96.5, 93.5, 89.4, 7.3, 99.0, 64.2, 72.2]
    assert [recipe.published[-1] for recipe in RECIPES.values()] == largest
    assert all(RECIPES[name].name == name for name in RECIPES)


def test_default_grid_is_the_papers():
    options = ProbeOptions()
    assert options.learning_rates == (5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3)
    assert (options.weight_decays, options.epochs, options.batch_size) == ((0.05, 0.1), 100, 512)
    assert set(options.learning_rates) <= set(ProbeConfig().learning_rates)


def test_other_counts_than_the_recipes_are_named():
    recipe = RECIPES["dtd"]
    assert recipe.warnings(num_train=3760, num_test=1880, num_classes=47) == []
    assert recipe.warnings(num_train=0, num_test=1880, num_classes=47) == []  # without training images
    (sentence,) = recipe.warnings(num_train=3760, num_test=1879, num_classes=47)
    assert sentence == "the set has 1,879 test images, and the recipe dtd 1,880: results are not comparable"


def test_recipes_are_listed_with_what_to_put_where():
    console = Console(record=True, width=250)
    print_recipes(console)
    shown = console.export_text()
    assert all(name in shown for name in RECIPES)
    assert "train1.txt" in shown
    assert "86.6" in shown


def test_published_accuracies_are_those_of_the_encoders_size():
    recipe = RECIPES["imagenet-1k"]
    assert list(recipe.beside("probe", 32).values()) == [86.6, 87.5, 88.1, 88.5]
    assert recipe.beside("probe", 1536) == {"AIMv2-H": 87.5}
    assert recipe.beside("zero_shot", 1536) == {"AIMv2-L after LiT": 77.0}
    assert recipe.beside("linear", 1536) == RECIPES["dtd"].beside("zero_shot", 1536) == {}
