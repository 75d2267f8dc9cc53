"""Every check passes on a trained run, and fails on one in which what it checks is broken."""

import copy
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from aimv2.analysis.verify.checks import (
    check_captions,
    check_decoder,
    check_encoder,
    check_lengths,
    check_losses,
    check_pixels,
    clustered_mean,
)
from aimv2.config.prefix import PrefixDistribution
from aimv2.model.layers import SelfAttention
from aimv2.objectives.aimv2 import AIMv2
from aimv2.objectives.build import build

CAPPA = {"objective": {"name": "cappa"}, "encoder": {"attention": "auto"}}


def untrained(run):
    return replace(run, model=build(run.config).eval())


DISTRIBUTIONS = {
    "uniform": {},
    "figure 1": {"law": "uniform_figure1"},
    "truncated": {"law": "truncated", "low": 0.25, "high": 0.5},
    "half full": {"full_attention": 0.5},
    "per batch": {"per": "batch"},
}


@pytest.mark.parametrize("kind", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_every_distribution_passes_on_its_own_draws(variant, kind):
    check = check_lengths(variant(prefix=kind))
    assert check.verdict == "PASS", check
    assert "chi-square" in check.finding
    assert f"{128 if kind.get('per') == 'batch' else 4096:,} " in check.finding


@pytest.mark.parametrize(("law", "length"), [({"law": "fixed", "fraction": 0.5}, 8), ({"law": "causal"}, 1)])
def test_distribution_of_one_length_passes_without_a_test(variant, law, length):
    check = check_lengths(variant(prefix=law))
    assert check.verdict == "PASS"
    assert f"all draws are {length} of 16" in check.finding


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ({"objective": {"name": "clip"}, "encoder": {"attention": "auto"}}, "NOT APPLICABLE"),
        ({"objective": {"name": "caption"}, "encoder": {"attention": "causal"}}, "NOT APPLICABLE"),
        ({"objective": {"name": "caption"}}, "PASS"),
        ({"encoder": {"attention": "causal"}}, "PASS"),
    ],
)
def test_lengths_are_tested_where_a_mask_or_a_loss_reads_them(variant, kind, verdict):
    assert check_lengths(variant(**kind)).verdict == verdict


def drawn_by(run, draw):
    """The run with another way to draw prefix lengths: ``draw(original, **address)``."""

    class Other(PrefixDistribution):
        def draw(self, **address):
            return draw(super().draw, **address)

    values = {field.name: getattr(run.config.prefix, field.name) for field in fields(run.config.prefix)}
    return replace(run, config=replace(run.config, prefix=Other(**values)))


def test_a_curriculum_is_tested_by_the_distribution_of_each_step(variant, plugged):
    plugged(
        "import numpy as np\nfrom aimv2.extend import prefix_distribution\n@prefix_distribution\n"
        "def longer(num_patches, progress):\n"
        "    lengths = np.arange(1, num_patches)\n"
        "    return (lengths > 8 * progress) / (lengths > 8 * progress).sum()\n"
    )
    run = variant(prefix={"law": "longer"})
    assert check_lengths(run).verdict == "PASS"
    at_start = drawn_by(run, lambda draw, **address: draw(**{**address, "step": 0}))
    assert check_lengths(at_start).verdict == "FAIL"


def test_draws_that_prefer_some_lengths_or_are_impossible_fail(run):
    def biased(draw, **address):
        length_B = draw(**address)
        return np.maximum(length_B - (length_B == 15), 1)

    check = check_lengths(drawn_by(run, biased))
    assert check.verdict == "FAIL"
    assert "p = " in check.finding

    def with_one(draw, *, step, **address):
        length_B = draw(step=step, **address)
        length_B[0] = 16 if step == 4 else length_B[0]
        return length_B

    check = check_lengths(drawn_by(run, with_one))
    assert check.verdict == "FAIL"
    assert "1 draws have a length of probability 0" in check.finding


def test_chi_square_joins_neighbours_until_five_are_expected(variant):
    """Of 6 draws none is tested; of 96, each length expects 6.4."""
    assert check_lengths(variant(prefix={"per": "batch"}, budget=budget_of(variant, 6))).verdict == "NOT APPLICABLE"
    run = variant(budget=budget_of(variant, 3))
    length_N = np.concatenate([run.batches[step].prefix_len_B.numpy() for step in range(3)])
    test = stats.chisquare(np.bincount(length_N, minlength=16)[1:])
    expected = f"chi-square {test.statistic:.1f} on 14 degrees of freedom, p = {test.pvalue:.3g}"
    assert expected in check_lengths(run).finding
    run = variant(budget=budget_of(variant, 2))  # 4.3 draws each, so two are joined, and the last one to others
    length_N = np.concatenate([run.batches[step].prefix_len_B.numpy() for step in range(2)])
    pairs = np.bincount((length_N - 1) // 2, minlength=8)
    test = stats.chisquare([*pairs[:6], pairs[6:].sum()], 64 / 15 * np.array([2] * 6 + [3]))
    assert f"chi-square {test.statistic:.1f} on 6 degrees of freedom" in check_lengths(run).finding


def budget_of(variant, num_steps):
    return replace(variant().config.budget, samples=num_steps * 32)


KINDS = {
    "trained": {},
    "causal": {"encoder": {"attention": "causal"}},
    "spiral": {"model": {"patch_order": "spiral"}},
    "some full": {"prefix": {"full_attention": 0.5}},
    "text first": {"decoder": {"order": "text_first"}},
    "separate": {"decoder": {"sharing": "separate"}},
    "image only": {"objective": {"name": "image_only"}},
    "caption": {"objective": {"name": "caption"}},
}


def masks(run):
    return [check.verdict for check in (check_encoder(run), check_decoder(run))]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_of_network_passes(run, variant, kind):
    run = variant(**kind) if kind else run
    assert masks(run) == ["PASS", "PASS"]
    assert check_encoder(run).finding.startswith(
        "128 perturbations, largest leak 0, 0 expected"
    )  # 8 images, 16 patches
    assert {check.verdict for check in check_losses(run)} <= {"PASS", "NOT APPLICABLE"}
    num_applicable = 1 if kind in (KINDS["image only"], KINDS["caption"]) else 2
    assert [check.verdict for check in check_losses(run)].count("PASS") == num_applicable


def test_masks_that_hide_nothing_or_are_none_are_not_applicable(variant):
    assert masks(variant(**CAPPA)) == ["NOT APPLICABLE", "PASS"]
    assert masks(variant(objective={"name": "clip"}, encoder={"attention": "auto"})) == ["NOT APPLICABLE"] * 2


@pytest.mark.parametrize("change", [lambda m: None, lambda m: m - 1, lambda m: m + 1], ids=["full", "short", "long"])
def test_another_mask_in_the_encoder_fails(run, broken, change):
    other = broken(run, "encoder", "forward", lambda forward, image, prefix_len_B: forward(image, change(prefix_len_B)))
    assert masks(other) == ["FAIL", "PASS"]


def test_raster_order_in_place_of_another_fails(variant):
    run = variant(model={"patch_order": "spiral"})
    run.model.encoder.patch_order = "raster"
    assert masks(run)[0] == "FAIL"


def test_decoder_that_is_not_causal_fails(run, monkeypatch):
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention",
        lambda q, k, v, attn_mask=None, is_causal=False: attend(q, k, v, attn_mask=attn_mask),
    )
    assert masks(run) == ["PASS", "FAIL"]


def test_positions_that_see_only_themselves_fail(run):
    def own_value(attention, x_BLD, mask=None, *, is_causal=False, cache=None):
        return attention.out(attention.qkv(x_BLD).chunk(3, dim=-1)[2])

    model = copy.deepcopy(run.model)
    for module in model.modules():
        if isinstance(module, SelfAttention):
            module.forward = partial(own_value, module)
    encoder, decoder = (check(replace(run, model=model)) for check in (check_encoder, check_decoder))
    assert encoder.verdict == decoder.verdict == "FAIL"
    assert "largest leak 0, " in decoder.finding


def test_captions_hidden_from_patches_fail_with_texts_first(variant, broken):
    def hide_all_text(forward, features, tokens, text_len_B):
        return forward(features, tokens, torch.zeros_like(text_len_B))

    check = check_decoder(broken(variant(decoder={"order": "text_first"}), "decoder", "forward", hide_all_text))
    assert check.verdict == "FAIL"
    assert "largest leak 0, " in check.finding


def test_weights_that_are_not_finite_fail(variant):
    run = variant()
    torch.nn.init.constant_(run.model.encoder.norm.weight, torch.nan)
    assert masks(run) == ["FAIL", "FAIL"]


def test_losses_of_another_definition_fail(run, monkeypatch):
    class Together(AIMv2):
        def forward(self, batch):
            losses = super().forward(batch)
            return losses._replace(terms=losses.terms | {"pixel_loss": 1.01 * losses.terms["pixel_loss"]})

    other = replace(run)
    vars(other)["objective"] = replace(run.objective, implementation=lambda: Together)
    assert [check.verdict for check in check_losses(other)] == ["FAIL", "PASS"]
    nats = F.cross_entropy
    monkeypatch.setattr(F, "cross_entropy", lambda *values, **named: nats(*values, **named) / np.log(2))
    assert [check.verdict for check in check_losses(run)] == ["PASS", "FAIL"]


@pytest.mark.parametrize("objective", [{"name": "clip"}, {"pixel_targets": "raw"}, {"pixel_patches": "image"}])
def test_other_losses_and_reductions_are_not_applicable(variant, objective):
    encoder = {"attention": "auto"} if "name" in objective else {}
    checks = check_losses(variant(objective=objective, encoder=encoder))
    assert [check.verdict for check in checks] == ["NOT APPLICABLE"] * 2


def test_trained_run_beats_the_mean_and_depends_on_images_and_random_weights_do_not(run, broken):
    assert [check(run).verdict for check in (check_pixels, check_captions)] == ["PASS", "PASS"]
    assert [check(untrained(run)).verdict for check in (check_pixels, check_captions)] == ["FAIL", "FAIL"]
    blind = broken(run, "encoder", "forward", lambda forward, image, *_: 0 * forward(image))
    assert check_captions(blind).verdict == "FAIL"


@pytest.mark.parametrize(
    "kind", [{"objective": {"name": "clip"}, "encoder": {"attention": "auto"}}, {"decoder": {"order": "text_first"}}]
)
def test_captions_without_an_image_are_not_applicable(variant, kind):
    assert check_captions(variant(**kind)).verdict == "NOT APPLICABLE"


def test_clustered_mean_is_the_t_interval_and_copies_do_not_narrow_it():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(0.3, 1, 40), rng.integers(1, 9, 40).astype(float)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    once = clustered_mean(values, np.ones(40), np.arange(40))
    assert (once.mean, once.low, once.high) == pytest.approx((values.mean(), expected.low, expected.high))
    weighted = clustered_mean(values, weights, np.arange(40))
    copied = clustered_mean(np.repeat(values, 5), np.repeat(weights, 5), np.repeat(np.arange(40), 5))
    assert (copied.mean, copied.low, copied.high) == pytest.approx((weighted.mean, weighted.low, weighted.high))
    assert weighted.mean == pytest.approx(values.sum() / weights.sum())
