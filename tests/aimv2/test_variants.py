"""Every variant of model, objective, loss, data and prefix lengths trains for two steps on real pairs."""

import math

import pytest
import torch

from aimv2.base.errors import UsageError
from aimv2.data.batches.training import TrainBatches
from aimv2.definitions.objectives import BUILT_IN, objective
from aimv2.objectives.build import build
from aimv2.request.resolve import resolve
from aimv2.training.loop import train
from tests.helpers.training import Rows, changed

VARIANTS = [
    *({"objective.name": name} for name in BUILT_IN),
    *({"model.encoder.attention": value} for value in ("prefix", "causal", "bidirectional")),
    {"objective.name": "caption", "model.encoder.attention": "bidirectional"},
    {"objective.name": "clip", "model.encoder.attention": "prefix"},
    {"model.encoder.norm": "layer", "model.decoder.norm": "layer"},
    {"model.encoder.ffn": "gelu", "model.decoder.ffn": "gelu"},
    {"objective.name": "siglip", "model.decoder.norm": "layer", "model.decoder.ffn": "gelu"},
    {"model.encoder.positions": "sincos"},
    {"model.patch_px": 8},
    {"model.patch_order": "spiral"},
    {"model.patch_order": "random"},
    {"model.decoder.width": 48, "model.decoder.depth": 2, "model.decoder.num_heads": 3},
    {"model.decoder.sharing": "separate"},
    {"model.decoder.order": "text_first"},
    {"model.decoder.image_positions": True},
    {"model.decoder.order": "text_first", "model.decoder.image_positions": True, "model.patch_order": "spiral"},
    {"model.text_tower.width": 48, "model.text_tower.num_heads": 3, "model.text_tower.embed_dim": 16}
    | {"objective.name": "clip", "model.text_tower.depth": 2},
    {"objective.supervise_eos": True},
    {"objective.pixel_weight": 0.0},
    {"objective.pixel_values": "sum"},
    {"objective.pixel_patches": "rank"},
    {"objective.pixel_patches": "image"},
    {"objective.pixel_patches": "image_mean"},
    {"objective.pixel_patches": "image_mean", "prefix.full_attention": 0.5},
    {"objective.pixel_targets": "raw"},
    {"objective.text_tokens": "rank"},
    {"objective.text_tokens": "caption"},
    {"objective.name": "cappa", "objective.text_tokens": "caption"},
    {"objective.name": "cappa", "objective.parallel_fraction": 1.0},
    {"objective.name": "cappa", "objective.parallel_fraction": 0.0},
    {"objective.name": "clip", "objective.temperature": 0.5},
    {"objective.name": "siglip", "objective.bias": -2.0},
    {"prefix.law": "uniform_figure1"},
    {"prefix.law": "fixed", "prefix.fraction": 0.5},
    {"prefix.law": "beta", "prefix.alpha": 1, "prefix.beta": 3},
    {"prefix.law": "truncated", "prefix.low": 0.25, "prefix.high": 0.75},
    {"prefix.law": "causal"},
    {"prefix.full_attention": 0.5},
    {"prefix.full_attention": 0.999, "prefix.per": "batch"},
    {"prefix.per": "batch"},
    {"data.weights": [3, 1]},
    {"data.weights": [0, 1]},
    {"data.captions": "shuffled"},
    {"objective.name": "clip", "data.captions": "shuffled", "data.weights": [1, 1]},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()))
def test_variant_trains_every_weight_that_it_reads(tiny, pairs, changes):
    config = changed(tiny, changes)
    goal = objective(config.objective.name)
    goal.check(config)
    model, record = build(config), Rows()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train(config, goal, model, TrainBatches(config, pairs.train, pairs.tokenizer), attempt=record)
    losses = [[value for name, value in row.items() if name.endswith("_loss")] for row in record.rows[1:]]
    assert len(losses) == 2
    assert all(values and all(map(math.isfinite, values)) for values in losses)
    assert [row["train_flops"] > 0 for row in record.rows[1:]] == [True, True]
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still == expected_to_stay(changes), "every weight that is read learns"


def expected_to_stay(changes):
    """Return the weights without a gradient in this variant."""
    if changes.get("objective.name") == "cappa":
        # With all tokens masked their embeddings are not read either, but still decay.
        return {{0.0: "decoder.mask_token", 1.0: "decoder.bos"}.get(changes.get("objective.parallel_fraction"))} - {
            None
        }
    if changes.get("prefix.full_attention") == 0.999:  # both steps have full attention, and so no pixel loss
        return {"decoder.pixel_head.weight"}
    return set()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective.name": "dino"}, "unknown objective.name 'dino'. Allowed: aimv2, cappa, caption, clip"),
        ({"model.encoder.positions": "sincos", "model.encoder.width": 34}, "width=34 is not a multiple of 4"),
        ({"model.text_tower.width": 33}, "text_tower: width=33 is not divisible by num_heads=2"),
        (
            {"data.weights": [1]},
            r"data: weights=\[1.0\] must have one value for each of sources=\['openmoji_scenes', .*\]",
        ),
        ({"data.weights": [0, 0]}, r"data: weights=\[0.0, 0.0\] must not all be 0"),
        (
            {"data.weights": [1, 1e-4]},
            "give 'fontawesome_scenes' none of 1000 samples; set its weight to 0 or raise it",
        ),
        ({"data.weights": "equal"}, r"data.weights is a list: write data.weights=\[equal\]"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_invalid_value_is_refused_in_one_sentence(tiny, changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        changed(tiny, changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.decoder.sharing": "separate", "model.decoder.order": "text_first"}, "neither decoder would read"),
        ({"objective.name": "caption", "model.decoder.sharing": "separate"}, "'caption': only 'joint'"),
        ({"objective.name": "caption", "model.decoder.order": "text_first"}, "'caption': only 'image_first'"),
        ({"objective.name": "cappa", "model.decoder.sharing": "separate"}, "'cappa': only 'joint'"),
        ({"objective.name": "image_only", "model.decoder.order": "text_first"}, "'image_only': only 'image_first'"),
        ({"objective.name": "image_only", "prefix.full_attention": 0.5}, "full attention leaves no patch to predict"),
        ({"objective.name": "image_only", "model.decoder.sharing": "separate"}, "only 'joint'"),
        (
            {"objective.name": "image_only", "data.captions": "shuffled"},
            "data.captions='shuffled' .*'image_only', which reads no captions: only 'own'",
        ),
        (
            {"objective.name": "caption", "objective.pixel_weight": 0.1},
            "objective.name=caption has no pixel_weight; objective.pixel_weight belongs to objective.name=aimv2",
        ),
        ({"objective.parallel_fraction": 0.1}, "=aimv2 has no parallel_fraction; .* belongs to objective.name=cappa"),
        ({"objective.temperature": 0.5}, "=aimv2 has no temperature; .* belongs to objective.name=clip or siglip"),
        ({"objective.name": "clip", "objective.bias": 0.0}, "=clip has no bias; .* belongs to objective.name=siglip"),
        ({"objective.name": "clip", "objective.pixel_targets": "raw"}, "name=clip has no pixel_targets"),
        ({"objective.name": "cappa", "prefix.law": "causal"}, "nothing reads prefix lengths"),
        ({"objective.name": "caption", "model.encoder.attention": "causal", "prefix.per": "batch"}, "nothing reads"),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_value_that_the_objective_does_not_allow_is_refused(tiny, changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        resolve(changed(tiny, changes))
    assert "\n" not in str(caught.value)


def test_objective_sets_attention_unless_config_does(tiny):
    own = {name: changed(tiny, {"objective.name": name}).model.encoder.attention for name in BUILT_IN}
    assert own == dict.fromkeys(("aimv2", "caption", "image_only"), "prefix") | dict.fromkeys(
        ("cappa", "clip", "siglip"), "bidirectional"
    )
    configured = changed(tiny, {"objective.name": "clip", "model.encoder.attention": "causal"})
    assert configured.model.encoder.attention == "causal"
