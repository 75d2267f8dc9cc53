"""The weights that a run starts from: what they are, and whether they fit. Nothing here imports torch."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, read_object
from aimv2.config.arguments import checked
from aimv2.config.model_config import EncoderConfig
from aimv2.config.program import replaced
from aimv2.config.run_config import RunConfig
from aimv2.definitions.objectives import objective
from aimv2.runs.lease import attempt_folder
from aimv2.runs.provenance import find_plugins

WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer.json"
RESULT = "result.json"  # of a finished run
IMPORTED = ("encoder", "image_px", "patch_px", "patch_order")  # sizes in a folder of ``weights import``


@dataclass(frozen=True)
class Origin:
    """Weights from which a run can start: of a finished run, or a folder of ``weights import``, an image encoder."""

    path: Path
    sizes: dict[str, Any]  # of the encoder and its images, by the names in ``ModelConfig``
    run: RunConfig | None  # None for a folder

    @property
    def file(self) -> Path:
        """The tensors, under the names of our networks."""
        return self.path / WEIGHTS if self.run is None else self._of_run(WEIGHTS)

    @property
    def tokenizer(self) -> Path:
        """The tokenizer of the run, or the place of that of a folder."""
        return self.path / TOKENIZER if self.run is None else self._of_run(TOKENIZER)

    @property
    def parts(self) -> set[str]:
        """The parts of the network that it has."""
        return {"encoder"} if self.run is None else parts_of(self.run)

    @property
    def fingerprint(self) -> str:
        """The name of the run, or a hash of the folder's sizes and tensors."""
        if self.run is not None:
            return self.run.name
        about = self.file.stat()
        return _fingerprint(json.dumps(self.sizes, sort_keys=True), self.file, about.st_mtime_ns, about.st_size)

    def _of_run(self, name: str) -> Path:
        return attempt_folder(self.path, read_json(self.path / RESULT)["attempt"]) / name


def parts_of(config: RunConfig) -> set[str]:
    """Return the names of the parts of the run's network."""
    parts = objective(config.objective.name).cost(config)
    return {part.module.partition(".")[0] for part in parts}


def read_origin(path: str, key: str = "start.weights") -> Origin:
    """Read the weights at the path that was given as ``key``: a finished run, or a folder of ``weights import``."""
    folder = Path(path).expanduser().resolve()
    where = folder / "config.json"
    if not where.is_file():
        raise UsageError(f"{key}={path!r} is neither the folder of a run nor one of: weights import")
    values = read_object(where)
    if "budget" in values:
        try:
            run = RunConfig.from_dict(values)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
        find_plugins(run, folder.parent)
        if not (folder / RESULT).exists():
            raise UsageError(f"{key}: run {folder.name} is not finished, and only a finished run has weights")
        return Origin(folder, {name: asdict(run.model)[name] for name in IMPORTED}, run)
    if not set(IMPORTED) <= values.keys() or not (folder / WEIGHTS).is_file():
        raise UsageError(f"{key}={path!r} is not complete; for published weights use: weights import")
    sizes = {name: values[name] for name in IMPORTED}
    sizes["encoder"] = asdict(checked(f"{where}: encoder", EncoderConfig, sizes["encoder"]))
    return Origin(folder, sizes, None)


def with_start(config: RunConfig) -> RunConfig:
    """Return the run with the fingerprint of the weights that it starts from; weights that do not fit are refused."""
    values: dict[str, Any] = {"fingerprint": ""}
    if config.start.weights is not None:
        origin = read_origin(config.start.weights)
        _check_fits(origin, config)
        values = {"weights": str(origin.path), "fingerprint": origin.fingerprint}
    changed = replace(config.start, **values)
    return config if changed == config.start else replace(config, start=changed)


def continued(origin: Origin) -> RunConfig:
    """Return the config of a finished run, with its tokenizer, for a run that starts from its weights."""
    assert origin.run is not None, "a folder of weights has no config of a run"
    values = {"weights": str(origin.path)}
    return replaced(origin.run, {"start": values, "data.tokenizer": str(origin.tokenizer), "device": "auto"})


def with_sizes(origin: Origin, scale: RunConfig) -> RunConfig:
    """Return the run of a scale with the encoder of a folder of ``weights import``, for a run that starts from it."""
    sizes = {f"model.{name}": value for name, value in origin.sizes.items()}
    sizes["model.encoder"] = {**origin.sizes["encoder"], "attention": scale.model.encoder.attention}
    return replaced(scale, {**sizes, "start.weights": str(origin.path)})


def _check_fits(origin: Origin, config: RunConfig) -> None:
    """Refuse weights of other sizes, and of parts that would read them otherwise."""
    now = asdict(config.model)
    for name in ("patch_px", "patch_order"):
        _check_equal(f"model.{name}", now[name], origin.sizes[name])
    free = {"attention"}  # of training only
    if config.model.encoder.positions == "sincos":
        free.add("positions")  # a table of learned ones is left out
    for name, value in origin.sizes["encoder"].items():
        if name not in free:
            _check_equal(f"model.encoder.{name}", now["encoder"][name], value)
    if origin.run is None:
        return
    shared, before = origin.parts & parts_of(config), origin.run.model
    if "decoder" in shared:
        _check_equal("model.decoder", now["decoder"], asdict(before.decoder))
    if "text_tower" in shared and config.model.tower != before.tower:
        raise UsageError(f"the text tower is {config.model.tower}, but in the weights of start.weights {before.tower}")
    if shared - {"encoder"}:
        for name in ("vocab_size", "max_text_tokens"):
            _check_equal(f"model.{name}", now[name], getattr(before, name))


def _check_equal(key: str, value: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        for name, expected_value in expected.items():
            _check_equal(f"{key}.{name}", value[name], expected_value)
    elif value != expected:
        raise UsageError(f"{key}={value!r}, but the weights of start.weights have {expected!r}")


@lru_cache(maxsize=64)
def _fingerprint(sizes: str, file: Path, modified: int, num_bytes: int) -> str:
    """Hash the sizes and the file's content; the other arguments say whether the file has changed."""
    whole = hashlib.sha256(sizes.encode())
    with file.open("rb") as content:
        whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()[:12]
