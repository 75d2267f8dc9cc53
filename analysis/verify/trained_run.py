"""The run that is checked: its weights, its data, its metrics."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.base.typed import as_typed
from aimv2.config.program import SIGNATURE_VERSION
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.data.pairs import Joined, Pairs
from aimv2.data.prepare import prepare
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.evaluation.held_out import HeldOutPairs, Words, network_inputs, prepare_pairs
from aimv2.model.network import Network
from aimv2.objectives.build import build
from aimv2.request.resolve import data_fingerprint, with_attention
from aimv2.runs.provenance import find_plugins
from aimv2.runs.record import RunFolder
from aimv2.runs.tensor_file import read_tensors
from aimv2.spec.objectives import Objective, objective
from aimv2.spec.used import check_plugins

MAX_PAIRS = 1024  # held-out pairs; more would only narrow the intervals


@dataclass(frozen=True)
class TrainedRun:
    """A finished run and everything that the checks read of it.

    Attributes:
        config: the run's own, on a device of this machine and in float32, whatever the run was trained in.
        held_out: at most ``MAX_PAIRS`` pairs.
        metrics: a row per training step.
    """

    folder: RunFolder
    config: RunConfig
    model: Network
    train: Joined
    held_out: Pairs
    tokenizer: CaptionTokenizer
    metrics: pd.DataFrame

    @cached_property
    def objective(self) -> Objective:
        """The specification of the objective that the run was trained with."""
        return objective(self.config.objective.name)

    @cached_property
    def batches(self) -> TrainBatches:
        """The batches that the run was trained on."""
        return TrainBatches(self.config, self.train, self.tokenizer)

    @cached_property
    def image(self) -> Tensor:
        """The network's inputs for the held-out images, float32 [N, 3, P, P]."""
        return network_inputs(self.pairs.images, self.config)

    @cached_property
    def pairs(self) -> HeldOutPairs:
        """The held-out pairs, prepared."""
        return prepare_pairs(self.held_out, Words.of(self.tokenizer, self.config), self.config.data.max_bad_rate)


def find(run: str | None, runs_dir: Path) -> RunFolder:
    """Find a finished run.

    Args:
        run: a path, or a name in ``runs_dir``; None is the newest finished trained run of ``runs_dir`` whose captions
            and pixels are its images' own: a control with shuffled ones fails by design.

    Raises:
        UsageError: there is no such run, or it is not finished.
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
        raise UsageError(f"run={run!r} is not a run: it has no config.json; make one with: {as_typed('train')}")
    if not found.is_done:
        raise UsageError(
            f"run={run!r} is not finished ({found.state()}); repeat the command that started it to resume it"
        )
    return found


def _newest(runs_dir: Path) -> RunFolder:
    results = runs_dir.glob(f"v{SIGNATURE_VERSION}-*/result.json")
    for result in sorted(results, key=lambda path: (path.stat().st_mtime_ns, path), reverse=True):
        run = RunFolder(runs_dir, result.parent.name)
        config = _read_config(run)
        if config.budget.samples and config.data.captions == config.data.pixels == "own":
            return run
    where = "" if runs_dir == Path("runs") else f" runs_dir={runs_dir}"
    raise UsageError(
        f"runs_dir={str(runs_dir)!r} has no finished trained run, controls apart;"
        f" make one with: {as_typed('train')}{where}"
    )


def load(folder: RunFolder) -> TrainedRun:
    """Load a finished run and prepare its data.

    Raises:
        UsageError: the run is untrained, at native resolution or broken, or the packages that its data came from have
            changed since.
    """
    config = _read_config(folder)
    if not config.budget.samples:
        raise UsageError(f"run {folder.path} is an untrained encoder (budget.samples=0); only trained runs are checked")
    if config.native.areas:
        raise UsageError(
            f"run {folder.path} was trained at native resolution, and only squares of one size are checked"
        )
    device = config.device if config.device == "cpu" or torch.cuda.is_available() else "cpu"
    config = replace(with_attention(config), device=device, precision="float32")
    metrics = folder.metrics()
    if config.data.fingerprint:
        _check_data(folder, "fingerprint", data_fingerprint(config), config.data.fingerprint)
    try:
        own = CaptionTokenizer.load(folder.file("tokenizer.json"))
    except UsageError as error:
        raise UsageError(f"run {folder.path} is broken: its tokenizer.json cannot be read") from error
    data = prepare(config.data, config.model.vocab_size, show_progress=True)
    _check_data(folder, "tokenizer", data.tokenizer.fingerprint, own.fingerprint)
    model, weights = build(config), folder.file("weights.safetensors")
    try:
        model.load_state_dict(read_tensors(weights), strict=True)
    except (UsageError, RuntimeError) as error:
        raise UsageError(f"{weights} does not hold this run's weights ({' '.join(str(error).split())})") from error
    pairs = data.held_out.subset(min(config.evaluation.num_pairs, MAX_PAIRS))
    return TrainedRun(folder, config, model.to(device).eval(), data.train, pairs, data.tokenizer, metrics)


def _read_config(run: RunFolder) -> RunConfig:
    try:
        config = RunConfig.from_dict(read_json(run.path / "config.json"))
    except UsageError as error:
        raise UsageError(f"run {run.path} is broken: {error}; choose another with run=") from error
    find_plugins(config, run.path.parent)
    check_plugins(config, run.name)
    return config


def _check_data(run: RunFolder, what: str, now: str, before: str) -> None:
    if now != before:
        raise UsageError(
            f"the data packages changed since run {run.path} was made: the {what} is {now} and was {before}; install"
            " the versions of its manifest.json, or train again"
        )
