"""The run that is checked: its weights and its data."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from aimv2.base.errors import UsageError
from aimv2.config.arguments import as_typed
from aimv2.config.program import SIGNATURE_VERSION
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import Data, prepare
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.definitions.objectives import Objective, objective
from aimv2.definitions.programs import check_plugins
from aimv2.evaluation.held_out import HeldOutPairs, Words, prepare_pairs
from aimv2.model.network import Network
from aimv2.objectives.build import build
from aimv2.request.resolve import data_fingerprint, with_attention
from aimv2.runs.tensor_file import read_tensors
from aimv2.start.origin import Origin, read_origin

NUM_IMAGES = 8  # of training, whose masks and losses are checked
MAX_PAIRS = 1024  # held-out pairs; more would only narrow the intervals


@dataclass(frozen=True)
class TrainedRun:
    """A finished run and everything that the checks read of it.

    Attributes:
        config: the run's own, on a device of this machine and in float32, whatever the run was trained in.
    """

    name: str
    config: RunConfig
    model: Network
    data: Data

    @cached_property
    def objective(self) -> Objective:
        return objective(self.config.objective.name)

    @cached_property
    def batches(self) -> TrainBatches:
        """The batches that the run was trained on."""
        return TrainBatches(self.config, self.data.train, self.data.tokenizer)

    @cached_property
    def first(self) -> Batch:
        """The first images of the first training batch."""
        images = range(min(NUM_IMAGES, self.config.budget.batch_size))
        return self.batches.part(0, images).to(torch.device(self.config.device))

    @cached_property
    def pairs(self) -> HeldOutPairs:
        """At most ``MAX_PAIRS`` held-out pairs, prepared."""
        pairs = self.data.held_out.subset(min(self.config.evaluation.num_pairs, MAX_PAIRS))
        return prepare_pairs(pairs, Words.of(self.data.tokenizer, self.config), self.config.data.max_bad_rate)


def find(run: str | None, runs_dir: Path) -> Origin:
    """Find a finished run: a path, or a name in ``runs_dir``.

    None is the newest finished trained run there whose captions and pixels are its images' own: a control with shuffled
    ones fails by design.

    Raises:
        UsageError: there is no such run, or it is not finished.
    """
    if run is not None:
        in_runs_dir = (runs_dir / run).is_dir() and not Path(run).is_dir()
        return read_origin(str(runs_dir / run) if in_runs_dir else run, "run")
    results = runs_dir.glob(f"v{SIGNATURE_VERSION}-*/result.json")
    for result in sorted(results, key=lambda path: (path.stat().st_mtime_ns, path), reverse=True):
        origin = read_origin(str(result.parent), "run")
        if origin.run and origin.run.budget.samples and origin.run.data.captions == origin.run.data.pixels == "own":
            return origin
    where = "" if runs_dir == Path("runs") else f" runs_dir={runs_dir}"
    raise UsageError(
        f"runs_dir={str(runs_dir)!r} has no finished trained run, controls apart;"
        f" make one with: {as_typed('train')}{where}"
    )


def load(origin: Origin) -> TrainedRun:
    """Load a finished run and prepare its data.

    Raises:
        UsageError: the run is untrained, at native resolution or broken, or the packages that its data came from have
            changed since.
    """
    config, path = origin.run, origin.path
    if config is None or not config.budget.samples or config.native.areas:
        raise UsageError(f"{path} is no trained run on squares of one size, and only such runs are checked")
    check_plugins(config, path.name)
    device = config.device if config.device == "cpu" or torch.cuda.is_available() else "cpu"
    config = replace(with_attention(config), device=device, precision="float32")
    try:
        tokenizer = CaptionTokenizer.load(origin.tokenizer)
    except UsageError as error:
        raise UsageError(f"run {path} is broken: its tokenizer.json cannot be read") from error
    fingerprint = config.data.fingerprint and data_fingerprint(config)
    data = prepare(config.data, config.model.vocab_size, show_progress=True)
    if (fingerprint, data.tokenizer.fingerprint) != (config.data.fingerprint, tokenizer.fingerprint):
        raise UsageError(
            f"the data packages changed since run {path} was made; install the versions of its manifest.json, or train"
            " again"
        )
    model = build(config)
    try:
        model.load_state_dict(read_tensors(origin.file), strict=True)
    except (UsageError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise UsageError(f"{origin.file} does not hold this run's weights ({text})") from error
    return TrainedRun(path.name, config, model.to(device).eval(), data)
