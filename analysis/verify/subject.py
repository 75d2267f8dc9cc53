"""The finished run that is looked at: its weights, its data, what it recorded."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from aimv2.config.resolve import data_fingerprint, with_attention
from aimv2.config.run_config import RunConfig, from_dict
from aimv2.config.signature import SIGNATURE_VERSION
from aimv2.data.batches import TrainBatches
from aimv2.data.pairs import Pairs, prepare
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.errors import UsageError
from aimv2.evaluation.losses import HeldOut, prepare_pairs
from aimv2.model.network import Network, build
from aimv2.runs.files import read_json
from aimv2.runs.record import RunFolder

MOST_PAIRS = 1024  # held-out pairs; more would only make intervals narrower


@dataclass(frozen=True)
class Subject:
    """A run and everything that the checks read of it.

    Attributes:
        config: the run's own, but on a device that is here and in float32, whatever it was trained in.
        held_out: at most ``MOST_PAIRS`` pairs.
        metrics: a row per training step.
    """

    run: RunFolder
    config: RunConfig
    model: Network
    train: Pairs
    held_out: Pairs
    tokenizer: CaptionTokenizer
    metrics: pd.DataFrame

    @cached_property
    def batches(self) -> TrainBatches:
        """The batches that the run was trained on."""
        return TrainBatches(self.config, self.train, self.tokenizer)

    @cached_property
    def names(self) -> HeldOut:
        """The held-out images with their names as captions."""
        return prepare_pairs(self.held_out, self.tokenizer, self.config, caption="name")

    @cached_property
    def descriptions(self) -> HeldOut:
        """The held-out images with their descriptive captions."""
        return prepare_pairs(self.held_out, self.tokenizer, self.config, caption="description")

    @property
    def concept_N(self) -> np.ndarray:
        """The concept of every held-out pair."""
        return self.held_out.table["concept"].to_numpy()


def find(run: str | None, runs_dir: Path) -> RunFolder:
    """The run of this path (or of this name in ``runs_dir``), or else the newest finished trained run of ``runs_dir``.

    Raises:
        UsageError: there is none, or it is not finished.
    """
    if run is None:
        return _newest(runs_dir)
    path = Path(run)
    if not path.is_dir() and (runs_dir / run).is_dir():
        path = runs_dir / run
    if path.name in ("", ".."):
        path = path.resolve()
    found = RunFolder(path.parent, path.name)
    if not (path / "config.json").is_file():
        raise UsageError(f"run={run!r} is no run: it has no config.json; runs are made by: python -m aimv2 train")
    if not found.is_done:
        raise UsageError(
            f"run={run!r} is not finished ({found.state()}); the command that began it does what is missing"
        )
    return found


def _newest(runs_dir: Path) -> RunFolder:
    """The trained run with the youngest result."""
    runs = [RunFolder(runs_dir, path.name) for path in runs_dir.glob(f"v{SIGNATURE_VERSION}-*")]
    results = [(run.path / "result.json", run) for run in runs if run.is_done]
    for _, run in sorted(results, key=lambda item: (item[0].stat().st_mtime_ns, item[1].name), reverse=True):
        if _config(run).budget.samples:
            return run
    where = "" if runs_dir == Path("runs") else f" runs_dir={runs_dir}"
    raise UsageError(
        f"runs_dir={str(runs_dir)!r} has no finished trained run; make one with: python -m aimv2 train{where}"
    )


def _config(run: RunFolder) -> RunConfig:
    try:
        return from_dict(read_json(run.path / "config.json"))
    except UsageError as error:
        raise UsageError(f"run {run.path} is broken: {error}; run= names another") from error


def load(run: RunFolder) -> Subject:
    """Read a finished run and make its data ready.

    Raises:
        UsageError: it is untrained or broken, or the packages that its data came from have changed since.
    """
    config = _config(run)
    if not config.budget.samples:
        raise UsageError(f"run {run.path} is an untrained encoder (budget.samples=0); verify looks at trained runs")
    config = with_attention(config)
    device = config.device if config.device == "cpu" or torch.cuda.is_available() else "cpu"
    config = replace(config, device=device, precision="float32")
    metrics = run.metrics()

    if config.data.fingerprint and data_fingerprint(config) != config.data.fingerprint:
        raise _changed(run, f"they have fingerprint {data_fingerprint(config)} and the run's {config.data.fingerprint}")
    try:
        own = CaptionTokenizer.load(run.file("tokenizer.json"))
    except UsageError as error:
        raise UsageError(f"run {run.path} is broken: its tokenizer.json cannot be read") from error
    train, held_out, tokenizer = prepare(config.data, config.model, show_progress=True)
    if own.fingerprint != tokenizer.fingerprint:
        raise _changed(run, f"they give tokenizer {tokenizer.fingerprint} and the run has {own.fingerprint}")
    chosen = held_out.subset(min(config.evaluation.num_pairs, MOST_PAIRS))
    return Subject(run, config, _network(run, config), train, chosen, tokenizer, metrics)


def _changed(run: RunFolder, how: str) -> UsageError:
    return UsageError(
        f"the data package changed since run {run.path} was made: {how}; install the versions in its manifest.json,"
        " or train again"
    )


def _network(run: RunFolder, config: RunConfig) -> Network:
    path = run.file("weights.safetensors")
    model = build(config)
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"{path} does not hold this run's weights ({why})") from error
    return model.to(config.device).eval()
