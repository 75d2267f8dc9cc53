"""Time of finished runs, read from their records. Nothing here imports torch."""

import hashlib
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aimv2.base.files import read_json
from aimv2.runs.lease import attempt_folder
from aimv2.runs.record import entries
from aimv2.runs.rows import last_rows, rows_at

MAX_RUNS = 100  # newest finished runs that are read
MAX_DATED = 500  # finished runs whose age is read
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


def recorded_times(runs_dir: Path) -> dict[str, Times]:
    """Return the median times of the newest finished runs, by the name of their shape.

    In a folder with more than MAX_DATED finished runs, they are the newest among these many. Names of runs are hashes,
    so the first names are a sample.
    """
    names = sorted(name for name, entry in entries(runs_dir).items() if entry.state == "done")[:MAX_DATED]
    results = [path for name in names if (path := runs_dir / name / "result.json").exists()]
    finished = sorted(results, key=lambda path: -path.stat().st_mtime)
    found: dict[str, list[Times]] = {}
    for result in finished[:MAX_RUNS]:
        try:
            attempt = attempt_folder(result.parent, read_json(result)["attempt"])
            hardware, times = read_json(attempt / "manifest.json")["hardware"], run_times(result.parent)
            for name in shapes(read_json(result.parent / "config.json"), hardware):
                found.setdefault(name, []).append(times)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a record of another version, or a broken one
    return {
        name: {key: statistics.median(run[key] for run in runs if key in run) for key in set().union(*runs)}
        for name, runs in found.items()
    }


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
