"""The name of a run, which is a hash of its config."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aimv2.base.plugins import AT
from aimv2.config.data_config import DataConfig, source_name
from aimv2.config.evaluation_config import EvaluationConfig, ReaderConfig
from aimv2.config.model_config import FFN_MULTIPLE
from aimv2.config.paths import replaced, to_dict
from aimv2.config.program import SIGNATURE_VERSION, flattened
from aimv2.config.run_config import RunConfig

# A label, and values and whole parts that set speed or place, or when a run fails, which change no result. The content
# of a tokenizer, of sources in files and of labelled sets is in data.fingerprint, that of weights in start.fingerprint.
NOT_IDENTITY = frozenset(
    {
        "scale",
        "device",
        "loader",
        "log",
        "checkpoint",
        "data.cache_dir",
        "data.cache_gb",
        "data.max_bad_rate",
        "data.tokenizer",
        "start.weights",
        "start.teacher",
        "parallel",
        "ranks_per_node",
        "micro_batch",
        "activation_checkpointing",
        "compile",
        "attention_kernel",
    }
)
# Fields that were added after the first stored runs of this version, with the values of those runs; a field with that
# value is left out of the hash, so that stored runs keep their names. Raising the version empties it.
ADDED: dict[str, Any] = {
    "data.canonical_nodes": 1,
    "data.dense_fractions": None,
    "data.max_pixels": DataConfig().max_pixels,
    "data.scenes.composition": "inks",
    "model.decoder.ffn_multiple": FFN_MULTIPLE,
    "model.encoder.ffn_multiple": FFN_MULTIPLE,
    "native.areas": [],
    "objective.text_tokens": "batch",
    "optimizer.name": "adamw",
    "residual": "float32",
    "start.frozen": [],
    "start.fingerprint": "",
    "start.teacher_fingerprint": "",
    "start.teacher_encoder": None,
    "evaluation.metrics": [],
    "evaluation.sets": [],
    "evaluation.set_images": EvaluationConfig().set_images,
    "evaluation.alone": None,
    **{f"evaluation.reader.{key}": value for key, value in asdict(ReaderConfig()).items()},
}
# Parts of the network and values that the encoder, before training, and what is measured of it do not depend on.
NOT_OF_INITIAL_ENCODER = ("model.decoder.", "model.text_tower.", "objective.", "plugins.objective.", "seed")
LAW = "prefix.law"
PLUGINS = "plugins."  # paths of plug-ins (``RunConfig.plugins``)
DESCRIBED = ("data.sources", "evaluation.sets")  # paths of descriptions


def identity(config: RunConfig, added: Mapping[str, Any] = ADDED) -> dict[str, Any]:
    """Return the hashed fields by path: all but those in NOT_IDENTITY and those with their value in ``added``.

    Descriptions count by their names, wherever they are, and plug-ins by their content, whatever their names.
    """
    values = flattened(to_dict(config))
    for key in DESCRIBED:
        values[key] = [source_name(path) for path in values[key]]
    values |= {key: id.rpartition(AT)[2] for key, id in values.items() if key.startswith(PLUGINS)}
    return {
        key: value
        for key, value in values.items()
        if NOT_IDENTITY.isdisjoint((key, key.split(".")[0])) and not (key in added and value == added[key])
    }


def signature(config: RunConfig) -> str:
    """Return the name of a run. The whole resolved config is hashed, so a name stays valid when a default changes."""
    digest = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()
    return f"v{SIGNATURE_VERSION}-{digest[:12]}"


def is_name(text: str) -> bool:
    """True if the text has the form of a run's name."""
    return text.startswith(f"v{SIGNATURE_VERSION}-")


def untrained(config: RunConfig) -> RunConfig:
    """Return the run that evaluates this run's initial encoder: no samples, and defaults for all training-only fields.

    Arms that differ only in training share it.
    """
    objective, evaluation = config.objective, EvaluationConfig()
    return replaced(
        config,
        {
            "start.frozen": (),
            "start.teacher": None,
            "start.teacher_fingerprint": "",
            "model.encoder.attention": "prefix",
            "budget": {"samples": 0, "batch_size": 1},
            "prefix": {},
            "native": {},
            "objective": {name: getattr(objective, name) for name in ("name", "pixel_targets", "supervise_eos")},
            "data.weights": None,
            "data.canonical_nodes": 1,
            "data.captions": "own",
            "data.pixels": "own",
            "data.dense_fraction": DataConfig().dense_fraction,
            "data.dense_fractions": None,
            "augment": {},
            "optimizer": {},
            "evaluation.curve_pairs": evaluation.curve_pairs,
            "evaluation.curve_points": evaluation.curve_points,
            "plugins": {path: one for path, one in config.plugins.items() if path != LAW},
            "ranks": 1,
        },
    )


def initial_encoder(config: RunConfig) -> str:
    """Return a hash of what a run's encoder is before training, and of how it is measured, whatever the seed.

    Runs with the same hash and seed have the same initial encoder and the same values of its metrics, though their
    decoders, objectives and training may differ.
    """
    values = identity(untrained(config))
    own = {key: value for key, value in values.items() if not key.startswith(NOT_OF_INITIAL_ENCODER)}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
