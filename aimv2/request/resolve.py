"""Resolution of a config: from the config as written to the values that this machine will use."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from aimv2.base.errors import UsageError
from aimv2.config.data_config import AugmentConfig, is_described
from aimv2.config.program import replaced
from aimv2.config.run_config import RunConfig
from aimv2.data.provenance import version
from aimv2.datasets.description import descriptions_of, read_source
from aimv2.definitions.metrics import set_names
from aimv2.definitions.objectives import objective
from aimv2.definitions.programs import with_plugins
from aimv2.memory.machine import has_cuda, missing_for_compile
from aimv2.request.origin import with_start


def resolve(
    config: RunConfig, *, available: Literal["cuda", "cpu"] | None = None, needs_data: bool = True
) -> RunConfig:
    """Replace each ``auto`` by its value for the machine, data and objective, and fill in fingerprints and plug-ins.

    The name of a resolved config therefore covers everything that the run computes. ``available`` is the device of the
    machine that will execute the run; None is this machine's. ``needs_data=False`` is for plans: packages of built-in
    sources may be missing, and then the name of the run is not that which it has where they are installed.
    """
    set_names(config)  # before anything is trained
    is_here = available is None
    available = available or ("cuda" if has_cuda() else "cpu")
    config = with_start(with_attention(config))
    objective(config.objective.name).check(config)
    device = available if config.device == "auto" else config.device
    if device == "cuda" and available != "cuda":
        raise UsageError(
            "device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto, or request a GPU of a"
            " cluster with executor.gres=gpu:1 or executor.gpus=1"
        )
    if config.compile is True and is_here and (missing := missing_for_compile(device)):
        raise UsageError(f"compile=true needs {missing}, which this machine lacks; install it or use compile=false")
    precision = config.precision
    if precision == "tf32" and device == "cpu":
        raise UsageError("precision=tf32 is computed by the tensor cores of GPUs; on the CPU use precision=float32")
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    for path in descriptions_of(config):
        from aimv2.datasets.open import check

        check(path)
    _check_augment(config)
    augment = config.augment.of(config.data)
    values = {
        # Workers may start in another folder.
        "data.sources": tuple(map(_absolute, config.data.sources)),
        "evaluation.sets": tuple(map(_absolute, config.evaluation.sets)),
        "augment": augment,
        "device": device,
        "precision": precision,
        "data.fingerprint": data_fingerprint(config, needs_data=needs_data),
    }
    return with_plugins(replaced(config, values))


def _check_augment(config: RunConfig) -> None:
    """Raise a UsageError for a value of ``augment`` that a source replaces by its own, or that does not fit those."""
    default = AugmentConfig()
    usual = {name: {getattr(default, name), value} for name, value in asdict(default.of(config.data)).items()}
    given = {name: value for name, value in asdict(config.augment).items() if value not in usual[name]}
    for source in filter(is_described, config.data.sources):
        own = read_source(source).transforms.given
        for name in own.keys() & given.keys():
            if own[name] != given[name]:
                raise UsageError(
                    f"augment.{name}={given[name]:g} has no effect, since transforms in {source} set it to"
                    f" {own[name]:g}; leave it out there"
                )
        try:
            replaced(config, {f"augment.{name}": value for name, value in own.items()})
        except UsageError as error:
            raise UsageError(f"transforms in {source} do not fit: {error}") from error


def _absolute(source: str) -> str:
    return str(Path(source).expanduser().absolute()) if is_described(source) else source


def with_attention(config: RunConfig) -> RunConfig:
    """Replace ``model.encoder.attention=auto`` by the objective's attention."""
    if config.model.encoder.attention != "auto":
        return config
    return replaced(config, {"model.encoder.attention": objective(config.objective.name).attention})


def missing_data(sources: Iterable[str]) -> str:
    """Return why the version of a built-in source is not known here; empty if all are."""
    try:
        for source in sources:
            if not is_described(source):
                version(source)
    except UsageError as error:
        return str(error)
    return ""


def data_fingerprint(config: RunConfig, *, needs_data: bool = True) -> str:
    """Hash the versions of the sources, the content of labelled sets, and that of a given tokenizer."""
    parts = [source if not needs_data and missing_data([source]) else version(source) for source in config.data.sources]
    if config.evaluation.sets:
        from aimv2.datasets.open import content_version

        parts += map(content_version, config.evaluation.sets)
    if config.data.tokenizer is not None:
        from aimv2.data.tokenizer import CaptionTokenizer

        parts.append(CaptionTokenizer.load(Path(config.data.tokenizer)).fingerprint)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
