import pytest

from aimv2.config.recipes.scales import SCALES


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
