"""Times of runs by their shape, in the cache folder: of finished runs, and of short ones that measure this machine.

Nothing here imports torch.
"""

import contextlib
import hashlib
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, write_json
from aimv2.base.hardware import hardware
from aimv2.config.run_config import RunConfig
from aimv2.config.serialization import to_dict
from aimv2.runs.lease import attempt_folder
from aimv2.runs.rows import last_rows, rows_at

SPEED_BYTES = 65536  # of a run's metrics, about two hundred rows

Times = dict[str, float]


def shapes(run: Mapping[str, Any], hardware: str) -> list[str]:
    """Return names for all that the time of a run's evaluation and, if it is trained, of its training depend on.

    Args:
        run: the config as nested dicts of JSON values.
    """
    model, encoder, objective = run["model"], run["model"]["encoder"], run["objective"]["name"]
    machine = (run["precision"], hardware, run["threads"])
    # A run and its untrained encoder share the evaluation: attention in training and the held-out curve do not count.
    evaluation = {key: value for key, value in run["evaluation"].items() if not key.startswith("curve_")}
    data = [run["data"][key] for key in ("sources", "held_out_fraction", "render_px", "fingerprint")]
    evaluated = model | {"encoder": encoder | {"attention": None}}
    names = [_hash("evaluation", evaluated, objective, evaluation, data, *machine)]
    if run["budget"]["samples"]:
        # Causal attention is that with a prefix of one patch.
        attention = "prefix" if encoder["attention"] == "causal" else encoder["attention"]
        trained = model | {"encoder": encoder | {"attention": attention}}
        start = run.get("start", {})  # older records have none
        differing = [value for key in ("frozen", "teacher_encoder") if (value := start.get(key))]
        differing += run.get("native", {}).get("areas", [])
        names.append(_hash(trained, objective, run["budget"]["batch_size"], *machine, *differing))
    return names


def run_times(run: Path) -> Times:
    """Return the times of a finished run.

    Returns:
        ``evaluation_seconds``, with the start of the run; and if it was trained, ``images_per_second`` of its training
        steps and ``curve_seconds_per_pair``, of one held-out pair in one point of the curve.

    Raises:
        UsageError, OSError, KeyError, TypeError: its record is incomplete.
    """
    config, result = read_json(run / "config.json"), read_json(run / "result.json")
    attempt = attempt_folder(run, result["attempt"])
    if not config["budget"]["samples"]:
        return {"evaluation_seconds": result["seconds"]}
    first = rows_at(attempt, [0])[0]
    rows = last_rows(attempt, SPEED_BYTES)
    speed = statistics.median(row["images_per_second"] for row in rows if "images_per_second" in row)
    curve_seconds = result["train_seconds"] - first["seconds"] - config["budget"]["samples"] / speed
    curve_pairs = config["evaluation"]["curve_points"] * config["evaluation"]["curve_pairs"]
    return {
        "images_per_second": speed,
        "curve_seconds_per_pair": max(curve_seconds, 0.0) / curve_pairs,
        "evaluation_seconds": first["seconds"] + result["seconds"] - result["train_seconds"],
    }


def remember(config: RunConfig, run: Path) -> None:
    """Keep the times of a finished run of this process, for plans of runs of its shape on this hardware."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a full disk, or a run of no step
        times = run_times(run)
        for shape in shapes(to_dict(config), hardware(config.device)):
            keep_times(config, shape, times)


def keep_times(config: RunConfig, shape: str, times: Times) -> None:
    """Write times to the cache folder of a run, in place of older ones of that shape."""
    path = _file(config, shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, times)


def kept_times(config: RunConfig, shape: str) -> Times | None:
    """Return the times that a run's cache folder has for a shape; None if there are none, or they are broken."""
    with contextlib.suppress(UsageError):
        found = read_json(_file(config, shape))
        if isinstance(found, dict) and found:
            return found
    return None


def _file(config: RunConfig, shape: str) -> Path:
    return Path(config.data.cache_dir) / "speed" / f"{shape}.json"


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
