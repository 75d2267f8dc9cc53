"""The table of recorded times, in the cache folder: of finished runs, and of short ones that measure this machine.

Nothing here imports torch.
"""

import contextlib
import hashlib
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, write_json
from aimv2.base.hardware import hardware
from aimv2.config.paths import to_dict
from aimv2.config.program import KIND, Program
from aimv2.config.run_config import RunConfig
from aimv2.run.pricing.effort import evaluation_effort, training_effort
from aimv2.runs.lease import attempt_folder
from aimv2.runs.rows import last_rows, rows_at

SPEED_BYTES = 65536  # of a run's metrics, about two hundred rows
TIMES = "times"  # a folder of the cache: a file for each shape

Part = Literal["training", "evaluation"]
# How much more or less effort than a measured run one may take that is estimated from it. A short run is evaluated on
# a small part of the data.
MAX_RATIO: dict[Part, float] = {"training": 8.0, "evaluation": 100.0}
EFFORTS = {"training": training_effort, "evaluation": evaluation_effort}


class RecordedTime(NamedTuple):
    """Seconds that a part of a run took: a training sample, or the start and the evaluation at the end.

    Attributes:
        shape: all that they depend on, as a hash; see ``shapes``.
        machine: the part of it that no effort can be scaled by.
        effort: seconds by ``aimv2.run.pricing.effort``.
        run: the name of the run; empty for a short one, of which nothing else is kept.
    """

    part: Part
    shape: str
    machine: str
    effort: float
    seconds: float
    run: str


def machine_of(run: Program) -> str:
    """Return what no effort can be scaled by: the machine, and another program or a metric that is measured alone."""
    machine = f"{hardware(run.device)}, {run.threads} threads, {run.precision}"
    if not isinstance(run, RunConfig):
        return f"{machine}, {run.kind}"
    alone = run.evaluation.alone
    return machine if alone is None else f"{machine}, metric {alone.metric} {alone.digest}"


def shapes(config: Program, machine: str | None = None) -> dict[Part, str]:
    """Return names for all that the time of a run's evaluation and, if it is trained, of its training depend on.

    That of another model than AIMv2 is one part, and depends on all values but the seed.

    Args:
        machine: where it runs, as ``machine_of`` says it; None is this machine.
    """
    machine = machine_of(config) if machine is None else machine
    if not isinstance(config, RunConfig):
        return {"evaluation": _hash(config.with_seed(0).to_dict(), machine)}
    run = to_dict(config)
    model, encoder, objective = run["model"], run["model"]["encoder"], run["objective"]["name"]
    # A run and its untrained encoder share the evaluation: attention in training and the held-out curve do not count.
    evaluation = {key: value for key, value in run["evaluation"].items() if not key.startswith(("curve_", "alone"))}
    data = [run["data"][key] for key in ("sources", "held_out_fraction", "render_px", "fingerprint")]
    evaluated = model | {"encoder": encoder | {"attention": None}}
    names: dict[Part, str] = {"evaluation": _hash("evaluation", evaluated, objective, evaluation, data, machine)}
    if run["budget"]["samples"]:
        # Causal attention is that with a prefix of one patch.
        attention = "prefix" if encoder["attention"] == "causal" else encoder["attention"]
        trained = model | {"encoder": encoder | {"attention": attention}}
        differing = [run["start"][key] for key in ("frozen", "teacher_encoder")] + [run["native"]["areas"]]
        names["training"] = _hash(trained, objective, run["budget"]["batch_size"], machine, differing)
    return names


def seconds_of(run: Path, *, of_cpu: bool = False) -> dict[Part, float]:
    """Return the seconds of the evaluation of a finished run and, if it was trained, of a sample of its steps.

    Args:
        of_cpu: CPU seconds instead of wall time.

    Raises:
        UsageError, OSError, ValueError, KeyError, TypeError: its record is incomplete.
    """
    config, result = read_json(run / "config.json"), read_json(run / "result.json")
    if KIND in config or not config["budget"]["samples"]:
        return {"evaluation": result["cpu_seconds" if of_cpu else "seconds"]}
    attempt = attempt_folder(run, result["attempt"])
    if of_cpu:
        steps = [row["step_cpu_seconds"] for row in last_rows(attempt, SPEED_BYTES) if "step_cpu_seconds" in row]
        return {
            "training": statistics.median(steps) / config["budget"]["batch_size"],
            "evaluation": result["cpu_seconds"] - result["train_cpu_seconds"],
        }
    speeds = [row["images_per_second"] for row in last_rows(attempt, SPEED_BYTES) if "images_per_second" in row]
    start = rows_at(attempt, [0])[0]["seconds"]
    return {
        "training": 1 / statistics.median(speeds),
        "evaluation": start + result["seconds"] - result["train_seconds"],
    }


def remember(config: Program, run: Path, *, is_short: bool = False) -> list[RecordedTime]:
    """Write the times of a finished run of this process to the table, in place of older ones of its shape.

    Args:
        is_short: the run is a short one, which is not kept. If one thread did it all and waited for no disk, its CPU
            time counts: one busy moment of the machine would make every later plan longer.

    Returns:
        These times, even if the cache cannot be written; none if the run's record is incomplete.
    """
    try:
        is_alone = (config.device, config.threads) == ("cpu", 1) and not config.loaders
        of_cpu = is_short and is_alone and isinstance(config, RunConfig) and config.data.kind != "files"
        seconds = seconds_of(run, of_cpu=of_cpu)
    except (UsageError, OSError, ValueError, KeyError, TypeError, ZeroDivisionError):  # such as a run of no step
        return []
    machine, name, found = machine_of(config), "" if is_short else run.name, []
    for part, shape in shapes(config).items():
        measured = RecordedTime(part, shape, machine, _effort(config, part), seconds[part], name)
        found.append(measured)
        with contextlib.suppress(OSError):  # a full disk, or one that is not ours
            folder = config.cache_dir / TIMES
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / f"{shape}.json", measured._asdict())
    return found


def recorded(cache_dir: Path) -> list[RecordedTime]:
    """Return the table of a cache folder, without files that are broken."""
    found = []
    for path in sorted((cache_dir / TIMES).glob("*.json")):
        with contextlib.suppress(UsageError, TypeError):
            one = RecordedTime(**read_json(path))
            if 0 < one.effort < math.inf and 0 <= one.seconds < math.inf:
                found.append(one)
    return found


def nearest(config: Program, part: Part, table: Sequence[RecordedTime]) -> tuple[float, RecordedTime] | None:
    """Return the seconds of a part of a run on this machine, and the measurement that they follow from.

    That is one of the same shape, or the one whose effort is nearest, times the ratio of the efforts.

    Returns:
        None if nothing like it was measured.
    """
    machine, shape, effort = machine_of(config), shapes(config)[part], _effort(config, part)
    own = [one for one in table if (one.part, one.machine) == (part, machine)]
    if (
        not own and isinstance(config, RunConfig) and config.evaluation.alone is not None
    ):  # no metric was measured yet, but whole evaluations were
        machine = machine_of(replace(config, evaluation=replace(config.evaluation, alone=None)))
        own = [one for one in table if (one.part, one.machine) == (part, machine)]
    for one in own:
        if one.shape == shape:
            return one.seconds, one
    if not own or not isinstance(config, RunConfig):
        return None
    distances = [abs(math.log(effort / one.effort)) for one in own]
    best = min(range(len(own)), key=distances.__getitem__)
    if distances[best] > math.log(MAX_RATIO[part]):
        return None
    return own[best].seconds * effort / own[best].effort, own[best]


def _effort(config: Program, part: Part) -> float:
    return EFFORTS[part](config) if isinstance(config, RunConfig) else 1.0


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
