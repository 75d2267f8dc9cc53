import hashlib
import json
from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.program import flattened, replaced
from aimv2.config.recipes.scales import demo
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import ADDED, identity
from aimv2.request.resolve import with_attention
from tests.helpers.config import changed

DEMO = flattened(demo().to_dict())


def test_the_demo_recipes_signature_is_pinned():
    # Stored runs live under this name. If it must change, raise SIGNATURE_VERSION.
    assert with_attention(demo()).name == "v2-35c808599f79"


def test_a_field_that_was_added_counts_once_it_differs_from_the_stored_runs():
    added = {"ranks": 1, "prefix.alpha": None}
    before = identity(with_attention(demo()).to_dict(), added)
    assert identity(with_attention(demo()).to_dict(), {}) == before | added
    assert identity(replace(with_attention(demo()), ranks=2).to_dict(), added) == before | {"ranks": 2}


def test_added_fields_exist():
    assert ADDED.keys() <= DEMO.keys()


# Values that change where or how fast a run computes, or that are named by other values.
PLACE = {
    *("scale", "device", "parallel", "micro_batch", "ranks_per_node", "activation_checkpointing", "compile"),
    *("loader.num_workers", "log.every_steps", "log.tensorboard"),
    *("checkpoint.every_seconds", "start.weights"),
    *("data.cache_dir", "data.cache_gb", "data.max_bad_rate", "data.tokenizer"),
}
# Another value of each key for which none follows from its type.
OTHER = {
    "device": "cpu",
    **dict.fromkeys(("residual", "precision"), "bfloat16"),
    "parallel": "fsdp",
    "loader.num_workers": 2,
    "micro_batch": 4,
    **dict.fromkeys(("activation_checkpointing", "compile"), True),
    **dict.fromkeys(("model.encoder.norm", "model.decoder.norm"), "layer"),
    **dict.fromkeys(("model.encoder.ffn", "model.decoder.ffn"), "gelu"),
    **dict.fromkeys(("model.encoder.attention", "prefix.law"), "causal"),
    "model.encoder.positions": "sincos",
    "model.decoder.sharing": "separate",
    "model.decoder.order": "text_first",
    "model.patch_order": "spiral",
    "data.scenes.composition": "looks",
    "model.text_tower.width": 48,
    "model.text_tower.depth": 1,
    "model.text_tower.num_heads": 4,
    "model.text_tower.embed_dim": 8,
    "objective.name": "caption",
    "objective.pixel_values": "sum",
    "objective.pixel_patches": "image",
    "objective.pixel_targets": "raw",
    "objective.text_tokens": "caption",
    **dict.fromkeys(("objective.temperature", "objective.bias", "prefix.full_attention"), 0.5),
    "prefix.per": "batch",
    "native.areas": [8, 16],
    "start.frozen": ["encoder"],
    "data.cache_dir": "elsewhere",
    "data.weights": [1, 2, 0],
    "data.dense_fractions": [0.1, 0.2, 0.3],
    **dict.fromkeys(("data.captions", "data.pixels"), "shuffled"),
    "data.scenes.grid": 3,
    "data.scenes.relation_rate": 0.25,
    **dict.fromkeys(("augment.min_scale", "augment.flip_probability"), 0.5),
    "evaluation.metrics": ["cka"],
    "evaluation.sets": ["a.yaml"],
    "evaluation.split": "validation",
}
OF_ONE_LAW = {f"prefix.{name}" for name in ("fraction", "alpha", "beta", "low", "high")}  # not free of prefix.law


def accepted(key, value):
    try:
        return RunConfig.from_dict(changed(key, value)) != demo()
    except UsageError:
        return False


def other_value(key):
    """Return a value of the key that the demo recipe does not have."""
    now = DEMO[key]
    if key in OTHER:
        return OTHER[key]
    if isinstance(now, bool):
        return not now
    if isinstance(now, int | float):  # half or double, whichever the checks allow
        return next(value for value in (now * 2, now / 2, now + 1, 0.9, 0.1) if accepted(key, value))
    if isinstance(now, list):
        return now[:-1] or [0.123]
    return "other"


@pytest.mark.parametrize("key", sorted(DEMO.keys() - OF_ONE_LAW - {"optimizer.name"}))  # there is one optimizer
def test_every_field_counts_in_the_name_but_those_that_change_speed_or_place(key):
    config = RunConfig.from_dict(changed(key, other_value(key)))
    assert config != demo()
    assert (config.name == demo().name) == (key in PLACE)


@pytest.mark.parametrize("key", ["data.sources", "evaluation.sets"])
def test_a_description_counts_by_its_name_wherever_it_is(key):
    paths = ("a/x.yaml", "/b/x.yaml", "a/y.yaml")
    here, there, other = (RunConfig.from_dict(changed(key, [path])).name for path in paths)
    assert here == there != other


def test_equal_values_written_differently_name_one_run():
    assert RunConfig.from_dict(changed("objective.pixel_weight", "0.4")).name == demo().name
    assert RunConfig.from_dict(changed("optimizer.clip_norm", 1)).name == demo().name


def test_arms_that_differ_in_training_alone_share_their_untrained_run():
    one = demo()
    values = {"model.encoder.attention": "causal", "prefix.law": "causal", "optimizer.peak_lr": 1e-4, "ranks": 2}
    values |= {"objective.pixel_weight": 2.0, "objective.pixel_patches": "image", "budget.samples": 64}
    values |= dict.fromkeys(("data.captions", "data.pixels"), "shuffled")
    other = replaced(one, values | {"data.weights": (1, 1, 0), "data.dense_fraction": 0.5})
    assert one.untrained().name == other.untrained().name != one.name
    assert replace(one, seed=1).untrained().name != one.untrained().name
    raw = replaced(one, {"objective.pixel_targets": "raw"})
    assert raw.untrained().name != one.untrained().name, "evaluation reads the targets"
    deeper = replaced(one, {"model.encoder.depth": 5})
    assert deeper.untrained().name != one.untrained().name


@pytest.mark.parametrize(
    ("path", "value", "is_same"),
    [
        ("seed", 1, True),
        ("model.decoder.depth", 3, True),
        ("model.text_tower.width", 48, True),
        ("objective.name", "caption", True),
        ("objective.pixel_targets", "raw", True),
        ("optimizer.peak_lr", 1e-4, True),
        ("budget.samples", 640, True),
        ("data.captions", "shuffled", True),
        ("model.encoder.attention", "causal", True),
        ("model.encoder.positions", "sincos", False),
        ("model.patch_order", "random", False),
        ("model.vocab_size", 1000, False),  # the reader's
        ("data.held_out_fraction", 0.3, False),
        ("evaluation.num_items", 100, False),
        ("evaluation.reader.samples", 640, False),
        ("start.fingerprint", "v2-0123456789ab", False),
        ("precision", "float32", False),
    ],
)
def test_initial_encoder_depends_on_the_encoder_and_what_is_measured_of_it(path, value, is_same):
    assert (replaced(demo(), {path: value}).initial() == demo().initial()) is is_same


def test_a_name_is_the_plain_hash_of_the_identity(tiny):
    """Though seeds of a config share most of the hashed text, whatever was named before."""
    other = replace(tiny, budget=replace(tiny.budget, samples=24))
    configs = (tiny, other, replace(tiny, threads=2))
    for config in (replace(one, seed=seed) for seed in (0, 1, 10**9) for one in configs):
        digest = hashlib.sha256(json.dumps(identity(config.to_dict()), sort_keys=True).encode()).hexdigest()
        assert config.name == f"v2-{digest[:12]}"
