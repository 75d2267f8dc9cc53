"""Probes: short runs on the machines where workers run, one for each shape of training, from which a plan is priced.

Nothing here imports torch.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.paths import from_dict, to_dict
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature
from aimv2.run.pricing.clock import shortened
from aimv2.run.pricing.effort import CURVE_SHARE, evaluation_effort
from aimv2.run.pricing.price import RunSeconds
from aimv2.run.pricing.recorded import Part, seconds_of, shapes
from aimv2.runs.record import RUN_NAME, RunFolder

FOLDER = "probes"  # in the runs folder: a folder of runs for each place where workers run
STEPS = 8
EVALUATION_EFFORT = 8.0  # seconds by ``effort.py``, of the part of the evaluation that a probe does


class Probed(NamedTuple):
    """A finished probe: its config, its seconds by part, and the hardware on which it ran."""

    config: RunConfig
    seconds: dict[Part, float]
    hardware: str


def check_probes(runs: Iterable[Program]) -> None:
    """Refuse runs that have no probe.

    Raises:
        UsageError: they are of another model than AIMv2.
    """
    if other := next((run for run in runs if not isinstance(run, RunConfig)), None):
        raise UsageError(f"probe=true is for runs of AIMv2, and these are of {other.kind}")


def probe_of(config: RunConfig) -> RunConfig:
    """Return the probe of a run: STEPS steps on its own batches and ranks, and a part of its evaluation."""
    return shortened(replace(config, seed=0), STEPS, EVALUATION_EFFORT)


def shape_of(config: RunConfig) -> str:
    """Return a name for all that the time of a run's training depends on but the machine; of its encoder, if it is not
    trained."""
    place = f"{config.device}, {config.threads} threads, {config.precision}, {config.ranks} ranks"
    return shapes(config, place).get("training") or _encoder(config)


def _encoder(config: RunConfig) -> str:
    """Return a name for the network that is evaluated; attention in training does not count."""
    values: dict[str, Any] = to_dict(config)["model"]
    encoder = values["encoder"] | {"attention": None}
    place = (config.device, config.threads, config.precision)
    text = json.dumps([values | {"encoder": encoder}, config.objective.name, place], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class ProbeClock:
    """Time of a run where workers run, by the finished probes in a folder.

    Args:
        folder: of the probes' runs; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._probed: dict[str, Probed] = {}
        self._encoders: dict[str, Probed] = {}
        self.read()

    def read(self) -> None:
        """Read the probes that have finished."""
        for path in sorted(self.folder.glob("v*")):
            run = RunFolder(self.folder, path.name)
            if RUN_NAME.fullmatch(path.name) and run.is_done:
                with contextlib.suppress(UsageError, OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
                    config = from_dict(read_json(run.path / "config.json"))
                    hardware = str(read_json(run.file("manifest.json"))["hardware"])
                    found = Probed(config, seconds_of(run.path), hardware)
                    self._probed[shape_of(config)] = found
                    self._encoders.setdefault(_encoder(config), found)

    @property
    def hardware(self) -> list[str]:
        """The hardware on which probes ran."""
        return sorted({one.hardware for one in self._probed.values()})

    def missing(self, runs: Iterable[Program]) -> list[RunConfig]:
        """Return a probe for each shape of these runs that was not measured; those of trained runs come first, since
        they measure untrained encoders too."""
        found: dict[str, RunConfig] = {}
        encoders = set(self._encoders)
        own = [run for run in runs if isinstance(run, RunConfig)]
        for run in sorted(own, key=lambda run: not run.budget.samples):
            is_known = shape_of(run) in self._probed or (not run.budget.samples and _encoder(run) in encoders)
            if not is_known:
                found.setdefault(shape_of(run), probe_of(run))
                encoders.add(_encoder(run))
        return list({signature(probe): probe for probe in found.values()}.values())

    def __call__(self, config: Program) -> RunSeconds | None:
        """Return the time of a run, or None if its shape was not measured."""
        if not isinstance(config, RunConfig):
            return None
        samples = config.budget.samples
        found = self._probed.get(shape_of(config)) if samples else self._encoders.get(_encoder(config))
        if found is None:
            return None
        a_sample = found.seconds["training"] if samples else 0.0
        pairs = config.evaluation.curve_points * config.evaluation.curve_pairs * bool(samples)
        ratio = evaluation_effort(config) / evaluation_effort(found.config)
        return RunSeconds(
            training=samples * a_sample,
            evaluation=found.seconds["evaluation"] * ratio + CURVE_SHARE * pairs * a_sample,
            hardware=found.hardware,
        )
