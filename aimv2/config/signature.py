"""The name of a run, which is a hash of its config."""

import hashlib
import json
from typing import Any

from aimv2.config.paths import replaced
from aimv2.config.run_config import DataConfig, EvaluationConfig, RunConfig, flatten, to_dict

SIGNATURE_VERSION = 1
# A label, and values and whole parts that set speed or place, which change no result. The tokenizer's content is in
# data.fingerprint.
NOT_IDENTITY = frozenset({"scale", "device", "loader", "log", "checkpoint", "data.cache_dir", "data.tokenizer"})
# Fields that were added after the first stored runs, with the values of those runs; a field with that value is left
# out of the hash, so that old names stay valid.
ADDED = {
    "model.encoder.norm": "rms",
    "model.encoder.ffn": "swiglu",
    "model.encoder.attention": "prefix",
    "model.encoder.positions": "learned",
    "model.decoder.norm": "rms",
    "model.decoder.ffn": "swiglu",
    "model.decoder.sharing": "joint",
    "model.decoder.order": "image_first",
    "model.decoder.image_positions": False,
    "model.text_tower.width": None,
    "model.text_tower.depth": None,
    "model.text_tower.num_heads": None,
    "model.text_tower.embed_dim": None,
    "model.patch_order": "raster",
    "prefix.alpha": None,
    "prefix.beta": None,
    "prefix.low": None,
    "prefix.high": None,
    "prefix.full_attention": 0.0,
    "prefix.per": "image",
    "objective.name": "aimv2",
    "objective.pixel_targets": "standardised",
    "objective.parallel_fraction": 0.75,
    "objective.temperature": None,
    "data.weights": None,
    "data.captions": "own",
    "ranks": 1,
}


def identity(config: RunConfig) -> dict[str, Any]:
    """Return the hashed fields by path: all but those in NOT_IDENTITY and those with their value in ADDED."""
    return {
        key: value
        for key, value in flatten(to_dict(config)).items()
        if NOT_IDENTITY.isdisjoint((key, key.split(".")[0])) and not (key in ADDED and value == ADDED[key])
    }


def signature(config: RunConfig) -> str:
    """Return the name of a run. The whole resolved config is hashed, so a name stays valid when a default changes."""
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()
    return f"v{SIGNATURE_VERSION}-{digest[:12]}"


def untrained(config: RunConfig) -> RunConfig:
    """Return the run that evaluates this run's initial encoder: no samples, and defaults for all training-only fields.

    Arms that differ only in training share it.
    """
    objective, evaluation = config.objective, EvaluationConfig()
    return replaced(
        config,
        {
            "model.encoder.attention": "prefix",
            "budget": {"samples": 0, "batch_size": 1},
            "prefix": {},
            "objective": {name: getattr(objective, name) for name in ("name", "pixel_targets", "supervise_eos")},
            "data.weights": None,
            "data.captions": "own",
            "data.pixels": "own",
            "data.dense_fraction": DataConfig().dense_fraction,
            "augment": {},
            "optimizer": {},
            "evaluation.curve_pairs": evaluation.curve_pairs,
            "evaluation.curve_points": evaluation.curve_points,
            "ranks": 1,
        },
    )
