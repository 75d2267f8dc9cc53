"""Recipes of post-training, and how a command line uses them."""

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.program import differences, replaced
from aimv2.config.recipes.post_training import RECIPES, high_res, lit, native, without_dense
from aimv2.config.recipes.scales import PRESETS, SCALES, demo, vit_l
from aimv2.objectives.build import build
from aimv2.request.compose import compose, run_config
from aimv2.request.resolve import resolve, with_attention
from tests.helpers.finished_runs import finished_run


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_has_its_name_and_a_lab_sheet_that_says_what_is_ours(name):
    assert RECIPES[name].__name__ == name
    assert all(f"{part}:" in RECIPES[name].__doc__ for part in ("Source", "Command", "Number to expect"))
    assert f"recipe={name}" in RECIPES[name].__doc__
    assert "Ours:" in RECIPES[name].__doc__


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_every_recipe_gives_a_run_of_every_scale(recipe, scale):
    after = recipe(with_attention(scale()))
    assert after.budget.samples % after.budget.batch_size == 0
    assert after != scale()


HIGH_RES_TRAINING = {
    "budget.samples": 250_000 * 8192,
    "optimizer.weight_decay": 0.0,
    "optimizer.peak_lr": pytest.approx(1e-4),
    "data.dense_fraction": 0.0,
}


def test_high_res_has_the_papers_values_at_the_papers_scale():
    """Section 2.4: 336 px, 2B of 12B pairs, no weight decay. A sixth of 12.29B pairs is 250,000 steps."""
    after = high_res(vit_l())
    assert differences(after, vit_l()) == HIGH_RES_TRAINING | {"model.image_px": 336, "data.render_px": 384}


def test_lit_has_the_papers_values_at_the_papers_scale():
    """Section 4.1 and ml-aim: 3B of 12B pairs on a frozen encoder, 768 wide and 12 deep text tower of 6 heads."""
    before = with_attention(vit_l())
    after = with_attention(lit(before))
    assert differences(after, before) == {
        "start.frozen": ["encoder"],
        "objective.name": "clip",
        "model.encoder.attention": "bidirectional",
        "budget.samples": 375_000 * 8192,
    }
    tower = after.model.tower
    assert (tower.stack.width, tower.stack.depth, tower.stack.num_heads, tower.embed_dim) == (768, 12, 6, 768)


def test_native_has_the_papers_values_at_the_papers_scale():
    """Section 2.4: 128 to 4096 patches, sin-cos positions. Its samples are as many as for high resolution."""
    before = with_attention(vit_l())
    images = {"native.areas": [128, 256, 512, 1024, 2048, 4096], "model.encoder.positions": "sincos"}
    assert differences(native(before), before) == HIGH_RES_TRAINING | images


@pytest.mark.parametrize(
    ("image_px", "batch_size", "expected"), [(32, 16, 16), (32, 24, 32), (48, 1, 16), (24, 7, 128)]
)
def test_native_has_whole_images_of_each_area(image_px, batch_size, expected):
    before = replaced(demo(), {"model.image_px": image_px, "data.render_px": 48})
    after = native(replaced(before, {"budget": {"samples": 10 * batch_size, "batch_size": batch_size}}))
    assert after.budget.batch_size == expected
    assert len(after.native.areas) == 6


def test_other_recipes_train_on_images_of_one_size_and_for_a_batch_at_least():
    for recipe in (high_res, lit):
        assert recipe(native(with_attention(demo()))).native.areas == ()
    assert high_res(replaced(demo(), {"budget.samples": 0})).budget.num_steps == 1


def test_the_papers_mixture_without_synthetic_captions():
    """Derived from Table 2: 44.8, 13.4 and 41.8 percent."""
    paper = PRESETS["paper"]
    data = replaced(demo(), {"data.weights": paper.weights, "data.dense_fractions": paper.dense_fractions}).data
    values = without_dense(data)
    weights = values.pop("data.weights")
    assert [100 * weight / sum(weights) for weight in weights] == pytest.approx([44.8, 13.4, 41.8], abs=0.05)
    assert values == {"data.dense_fraction": 0, "data.dense_fractions": None}


@pytest.mark.parametrize(
    "data",
    [{"data.weights": (1, 2, 3)}, {"data.dense_fractions": (0, 1, 0.5)}, {"data.weights": (1, 0, 0)}, {}],
    ids=str,
)
def test_weights_stay_where_sources_have_no_shares_of_their_own(data):
    assert "data.weights" not in without_dense(replaced(demo(), data).data)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("runs"), tiny, build(tiny))


def composed(*words):
    return run_config(compose(words, defaults={}))


def test_overrides_apply_after_the_recipe(tiny, finished):
    config = composed("recipe=high_res", f"start.weights={finished.path}", "optimizer.weight_decay=0.1")
    after = high_res(tiny)
    assert config.model == after.model
    assert (config.budget.samples, config.optimizer.weight_decay) == (after.budget.samples, 0.1)
    assert resolve(config).start.fingerprint == finished.name


def test_a_recipe_without_weights_is_refused():
    with pytest.raises(UsageError, match=r"recipe=high_res starts from given weights; type start.weights=PATH"):
        composed("recipe=high_res")
