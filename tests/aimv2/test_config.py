from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.config import (
    ADDED,
    EvaluationConfig,
    TransformerConfig,
    flatten,
    from_dict,
    identity,
    signature,
    to_dict,
    untrained,
)
from aimv2.errors import UsageError
from aimv2.prefix import PrefixLaw
from aimv2.resolve import with_attention
from aimv2.scales import SCALES, demo


def changed(key, value):
    """The demo recipe as a dict, with one value replaced or added."""
    values = to_dict(demo())
    *groups, name = key.split(".")
    owner = values
    for group in groups:
        owner = owner[group]
    owner[name] = value
    return values


@pytest.mark.parametrize("recipe", SCALES.values(), ids=SCALES)
def test_every_recipe_survives_the_way_to_text_and_back(recipe):
    assert from_dict(to_dict(recipe())) == recipe()


def test_the_demo_recipes_signature_is_pinned():
    # Stored runs live under this name. If it must change, raise SIGNATURE_VERSION.
    assert signature(with_attention(demo())) == "v1-934d10a6d90e"


def test_a_run_stored_before_a_field_was_added_keeps_its_name():
    """A config as the first version wrote it: without any of the fields that came later."""
    values = to_dict(with_attention(demo()))
    for key in ADDED:
        *groups, name = key.split(".")
        owner = values
        for group in groups:
            owner = owner[group]
        del owner[name]
    del values["model"]["text_tower"]
    assert signature(with_attention(from_dict(values))) == "v1-934d10a6d90e"


@pytest.mark.parametrize("key", ADDED)
def test_a_later_field_counts_once_it_differs(key):
    assert key in flatten(to_dict(demo())), "ADDED names a field that exists"
    assert key not in identity(with_attention(demo()))


@given(st.sampled_from(sorted(flatten(to_dict(demo())))))
def test_every_field_counts_in_the_name_but_those_that_change_speed_or_place(key):
    place = ("scale", "device", "loader.num_workers", "log.every_steps", "data.cache_dir", "data.tokenizer")
    other = {
        "device": "cpu",
        "data.cache_dir": "elsewhere",
        "precision": "bfloat16",
        "prefix.law": "causal",
        "objective.pixel_values": "sum",
    }
    other |= {
        "objective.pixel_patches": "image",
        "objective.pixel_targets": "raw",
        "objective.name": "caption",
        "objective.temperature": 0.5,
        "model.encoder.norm": "layer",
        "model.encoder.ffn": "gelu",
        "model.encoder.attention": "causal",
        "model.encoder.positions": "sincos",
        "model.decoder.norm": "layer",
        "model.decoder.ffn": "gelu",
        "model.decoder.sharing": "separate",
        "model.decoder.order": "text_first",
        "model.patch_order": "spiral",
        "model.text_tower.width": 48,
        "model.text_tower.depth": 1,
        "model.text_tower.num_heads": 4,
        "model.text_tower.embed_dim": 8,
        "prefix.per": "batch",
        "prefix.full_attention": 0.5,
    }
    values = to_dict(demo())
    now = flatten(values)[key]
    if key in other:
        new = other[key]
    elif isinstance(now, bool):
        new = not now
    elif isinstance(now, (int, float)):
        # Half or double, whichever the checks allow.
        new = next(v for v in (now * 2, now / 2, now + 1, 0.9) if accepted(key, v))
    elif isinstance(now, list):
        new = now[:-1] or [0.123]
    elif key in ("prefix.fraction", "prefix.alpha", "prefix.beta", "prefix.low", "prefix.high"):
        return  # not free of the law
    else:
        new = "other"
    config = from_dict(changed(key, new))
    assert (signature(config) == signature(demo())) == (key in place)


def accepted(key, value):
    try:
        return from_dict(changed(key, value)) != demo()
    except UsageError:
        return False


def test_equal_values_written_differently_name_one_run():
    assert signature(from_dict(changed("objective.pixel_weight", "0.4"))) == signature(demo())
    assert signature(from_dict(changed("optimizer.clip_norm", 1))) == signature(demo())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "model.encoder.widht",
            3,
            r"unknown key 'model.encoder.widht'. Did you mean 'model.encoder.width'\? Allowed: ",
        ),
        ("model.encoder.width", "wide", r"model.encoder.width: .*integer.*'wide'"),
        ("model.encoder.width", 97, "model.encoder: width=97 is not divisible by num_heads=3"),
        ("model.patch_px", 5, "model: image_px=32 is not a multiple of patch_px=5"),
        ("model.patch_px", 32, "makes one patch"),
        ("prefix.fraction", 0.5, "prefix: fraction=0.5 with law='uniform', which takes no parameter"),
        ("prefix.law", "gaussian", "prefix.law: Input should be 'uniform', 'uniform_figure1', 'fixed', 'beta'"),
        ("data.sources", [], r"data: sources=\[\] must name at least one"),
        ("data.sources", ["openmoji", "openmoji"], "each once"),
        ("data.sources", ["imagenet"], "data.sources.0: Input should be 'openmoji'"),
        ("data.held_out_fraction", 1, "data.held_out_fraction: Input should be less than 1"),
        ("data.render_px", 16, "data.render_px=16 is smaller than model.image_px=32"),
        ("augment.min_scale", 1.5, "augment.min_scale: Input should be less than or equal to 1"),
        ("augment.max_scale", 0.1, "min_scale must not exceed"),
        ("budget.samples", 100, "samples=100 is not a multiple of batch_size=32; the nearest are 96 and 128"),
        ("optimizer.peak_lr", float("nan"), "optimizer.peak_lr: Input should be a finite number"),
        ("optimizer.peak_lr", 0, "optimizer.peak_lr: Input should be greater than 0"),
        ("evaluation.probe.epochs", 0, "evaluation.probe.epochs: Input should be greater than 0"),
        ("evaluation.prefix_fractions", [0.5, 1.0], "evaluation: prefix_fractions"),
        ("evaluation.probe.learning_rates", [], "evaluation.probe"),
        ("seed", -1, "seed: Input should be greater than or equal to 0"),
        ("device", "tpu", "device: Input should be 'auto', 'cpu' or 'cuda'"),
        ("precision", "float16", "precision: Input should be 'auto', 'float32' or 'bfloat16'"),
    ],
)
def test_a_value_that_cannot_be_is_named_in_one_sentence(key, value, message):
    with pytest.raises(UsageError, match=message) as caught:
        from_dict(changed(key, value))
    assert "\n" not in str(caught.value)


def test_python_code_is_checked_like_a_command_line():
    with pytest.raises(ValueError, match="num_heads"):
        TransformerConfig(width=64, depth=2, num_heads=0)
    with pytest.raises(ValueError, match="multiple"):
        replace(demo().model, patch_px=7)
    with pytest.raises(ValueError, match="prefix_fractions"):
        EvaluationConfig(prefix_fractions=(0.0,))


@pytest.mark.parametrize(
    ("width", "hidden"), [(1024, 2816), (1536, 4096), (2048, 5632), (3072, 8192), (768, 2048), (64, 256)]
)
def test_the_ffns_width_follows_the_released_rule(width, hidden):
    assert TransformerConfig(width=width, depth=1, num_heads=1).ffn_hidden == hidden


def test_arms_that_differ_in_training_alone_share_their_untrained_run():
    one = demo()
    other = replace(
        one,
        model=replace(one.model, encoder=replace(one.model.encoder, attention="causal")),
        prefix=PrefixLaw(law="causal"),
        objective=replace(one.objective, pixel_weight=2.0, pixel_patches="image"),
        optimizer=replace(one.optimizer, peak_lr=1e-4),
        budget=replace(one.budget, samples=64),
    )
    assert signature(untrained(one)) == signature(untrained(other)) != signature(one)
    assert signature(untrained(replace(one, seed=1))) != signature(untrained(one))
    raw = replace(one, objective=replace(one.objective, pixel_targets="raw"))
    assert signature(untrained(raw)) != signature(untrained(one)), "evaluation reads the targets"
    deeper = replace(one, model=replace(one.model, encoder=replace(one.model.encoder, depth=5)))
    assert signature(untrained(deeper)) != signature(untrained(one))
