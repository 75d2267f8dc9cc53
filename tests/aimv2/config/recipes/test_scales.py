import pytest

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import SCALES, demo
from aimv2.request.compose import compose, run_config


@pytest.mark.parametrize(
    ("scale", "peak_lr", "width", "depth", "heads", "ffn"),
    [
        ("vit_l", 1e-3, 1024, 24, 8, 2816),
        ("vit_h", 8e-4, 1536, 24, 12, 4096),
        ("vit_1b", 8e-4, 2048, 24, 16, 5632),
        ("vit_3b", 4e-4, 3072, 24, 24, 8192),
    ],
)
def test_paper_recipes_have_the_papers_values(scale, peak_lr, width, depth, heads, ffn):
    """Tables 1, 9e, 9f and A1."""
    run = SCALES[scale]()
    encoder, decoder = run.model.encoder, run.model.decoder
    assert (encoder.width, encoder.depth, encoder.num_heads, encoder.ffn_hidden) == (width, depth, heads, ffn)
    assert (decoder.width, decoder.depth, decoder.num_heads, decoder.ffn_hidden) == (1024, 12, 8, 2816)
    assert (run.model.image_px, run.model.patch_px, run.model.num_patches, run.model.patch_dim) == (224, 14, 256, 588)
    assert (run.model.vocab_size, run.model.max_text_tokens) == (32_000, 77)
    assert (run.budget.num_steps, run.budget.batch_size) == (1_500_000, 8192)
    optimizer = run.optimizer
    assert (optimizer.peak_lr, optimizer.min_lr, optimizer.weight_decay) == (peak_lr, 1e-5, 1e-4)
    assert (optimizer.beta1, optimizer.beta2, optimizer.clip_norm) == (0.9, 0.95, 1.0)
    assert optimizer.warmup_fraction * run.budget.num_steps == pytest.approx(12_500)
    assert run.objective.pixel_weight == 0.4
    assert len(run.evaluation.probe.learning_rates) * len(run.evaluation.probe.weight_decays) == 2 * (7 + 2)


@pytest.mark.parametrize("name", SCALES)
def test_recipe_has_its_name_and_a_lab_sheet(name):
    recipe = SCALES[name]
    assert recipe().scale == name == recipe.__name__
    assert all(f"{part}:" in recipe.__doc__ for part in ("Source", "Command", "Number to expect"))


def composed(*words):
    return run_config(compose(words, defaults={}))


def test_preset_sets_weights_and_shares_of_dense_captions():
    data = composed("mixture=paper", "data.sources=[/a/dfn.yaml,/b/coyo.yaml,/c/hqitp.yaml]").data
    assert data.weights == (60, 9, 31)
    assert [data.dense_share(number) for number in range(3)] == pytest.approx([0.5, 0, 3 / 31])
    data = composed("mixture=public", "scale=tiny").data
    assert (data.weights, data.dense_fractions) == ((30, 9, 0), (0, 0, 0))


def test_without_a_preset_the_recipe_stays():
    assert composed() == composed("mixture=own") == demo()


@pytest.mark.parametrize("sources", ["openmoji", "a.yaml,b.yaml,c.yaml", "coyo.yaml,dfn.yaml,hqitp.yaml"])
def test_other_sources_are_refused(sources):
    with pytest.raises(UsageError, match=r"mixture=paper needs three sources, dfn\.yaml, coyo\.yaml, hqitp\.yaml in"):
        composed("mixture=paper", f"data.sources=[{sources}]")
