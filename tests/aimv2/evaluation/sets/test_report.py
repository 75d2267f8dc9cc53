from dataclasses import replace

from aimv2.datasets.images import Bad
from aimv2.tools.evaluate.encoding.models import load_model
from aimv2.tools.evaluate.methods.intervals import Estimate
from aimv2.tools.evaluate.recipes import RECIPES
from aimv2.tools.evaluate.report import Result, bad_summary, print_results, published
from rich.console import Console


def test_published_accuracies_are_those_of_the_encoders_size(public):
    model, recipe = load_model(public[0]), RECIPES["imagenet-1k"]
    assert list(published(recipe, "probe", model).values()) == [86.6, 87.5, 88.1, 88.5]
    encoder = replace(model.config.encoder, width=1536)
    huge = replace(model, config=replace(model.config, encoder=encoder))
    assert published(recipe, "probe", huge) == {"AIMv2-H": 87.5}
    assert published(recipe, "zero_shot", huge) == {"AIMv2-L after LiT": 77.0}
    assert published(recipe, "linear", huge) == published(None, "probe", huge) == {}


def test_a_row_shows_result_interval_published_and_settings():
    console = Console(record=True, width=160)
    result = Result(
        name="probe",
        estimate=Estimate(0.87654, 0.85, 0.9),
        how="how it was done",
        settings={"learning_rate": 1e-3},
        warning="a doubt",
        published={"AIMv2-L": 86.6},
    )
    print_results([result, Result(name="knn", estimate=Estimate(0.5, 0.4, 0.6), how="another way")], "title", console)
    shown = console.export_text()
    for text in ("87.65 %", "85.00 to 90.00", "AIMv2-L 86.6", "learning_rate 0.001", "how it was done", "another way"):
        assert text in shown
    assert "warning: probe: a doubt" in shown
    assert "apparently by the test set" in shown


def test_unusable_images_are_summarised_by_split():
    bad = {"test": [Bad(3, "a/3", "missing image", "gone")], "train": []}
    assert bad_summary(bad, {"test": 10, "train": 20}) == {
        "test": {"images": 10, "unusable": {"missing image": 1}, "first_unusable": [["a/3", "missing image", "gone"]]},
        "train": {"images": 20, "unusable": {}, "first_unusable": []},
    }
