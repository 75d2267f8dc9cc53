"""From a config as it is written to what this machine will compute."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Literal

from aimv2.config.run_config import RunConfig
from aimv2.data import glyphs
from aimv2.errors import UsageError
from aimv2.hardware import has_cuda
from aimv2.objectives import objective


def resolve(config: RunConfig, *, available: Literal["cuda", "cpu"] | None = None) -> RunConfig:
    """Replace ``auto`` by what the machine has and the objective wants, and fill in what the data is made of, so that
    the name says all.

    Args:
        available: the device of the machine that will do the run; None is this one.

    Raises:
        UsageError: ``device=cuda`` without a CUDA device, a data package or a tokenizer that is not there, or a value
            that the objective cannot have.
    """
    available = available or ("cuda" if has_cuda() else "cpu")
    config = with_attention(config)
    objective(config.objective.name).check(config)
    device = config.device
    if device == "auto":
        device = available
    if device == "cuda" and available != "cuda":
        raise UsageError(
            "device='cuda' and torch sees no CUDA device here; use device=cpu or device=auto, or on SLURM"
            " executor.gres=gpu:1"
        )
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    data = dataclasses.replace(config.data, fingerprint=data_fingerprint(config))
    return dataclasses.replace(config, device=device, precision=precision, data=data)


def with_attention(config: RunConfig) -> RunConfig:
    """The encoder's training attention, as the objective has it where the config leaves it open."""
    if config.model.encoder.attention != "auto":
        return config
    attention = objective(config.objective.name).attention
    encoder = dataclasses.replace(config.model.encoder, attention=attention)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, encoder=encoder))


def data_fingerprint(config: RunConfig) -> str:
    """A hash of the packages that pictures and captions come from, and of a given tokenizer's content."""
    parts = [glyphs.version(source) for source in config.data.sources]
    if config.data.tokenizer is not None:
        from aimv2.data.tokenizer import CaptionTokenizer

        parts.append(CaptionTokenizer.load(Path(config.data.tokenizer)).fingerprint)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
