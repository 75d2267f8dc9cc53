"""The name of a run, which is a hash of its config."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aimv2.base.plugins import AT
from aimv2.config.data_config import DataConfig, source_name
from aimv2.config.evaluation_config import EvaluationConfig, ReaderConfig
from aimv2.config.model_config import FFN_MULTIPLE
from aimv2.config.program import SIGNATURE_VERSION, flattened

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
        "parallel",
        "ranks_per_node",
        "micro_batch",
        "activation_checkpointing",
        "compile",
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
    "objective.bias": None,
    "objective.text_tokens": "batch",
    "optimizer.name": "adamw",
    "residual": "float32",
    "start.frozen": [],
    "start.fingerprint": "",
    "evaluation.metrics": [],
    "evaluation.sets": [],
    "evaluation.set_images": EvaluationConfig().set_images,
    **{f"evaluation.reader.{key}": value for key, value in asdict(ReaderConfig()).items()},
}
# Parts of the network and values that the encoder, before training, and what is measured of it do not depend on.
NOT_OF_INITIAL_ENCODER = ("model.decoder.", "model.text_tower.", "objective.", "plugins.objective.", "seed")
LAW = "prefix.law"
PLUGINS = "plugins."  # paths of plug-ins (``RunConfig.plugins``)
DESCRIBED = ("data.sources", "evaluation.sets")  # paths of descriptions


def identity(values: Mapping[str, Any], added: Mapping[str, Any] = ADDED) -> dict[str, Any]:
    """Return the hashed values of a config by path: all but those in NOT_IDENTITY and those with their value in
    ``added``.

    Descriptions count by their names, wherever they are, and plug-ins by their content, whatever their names.
    """
    flat = flattened(values)
    for key in DESCRIBED:
        flat[key] = [source_name(path) for path in flat[key]]
    flat |= {key: plugin.rpartition(AT)[2] for key, plugin in flat.items() if key.startswith(PLUGINS)}
    return {
        key: value
        for key, value in flat.items()
        if NOT_IDENTITY.isdisjoint((key, key.split(".")[0])) and not (key in added and value == added[key])
    }


def is_name(text: str) -> bool:
    """True if the text has the form of a run's name."""
    return text.startswith(f"v{SIGNATURE_VERSION}-")
