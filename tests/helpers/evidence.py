"""Evidence and run folders with chosen numbers."""

import numpy as np
import pandas as pd

from ablations.expectations import STEP_TIME
from aimv2.evaluation.metrics import Metric
from aimv2.runs.files import write_json
from aimv2.runs.record import RunFolder
from analysis.load import METRIC_COLUMNS, Evidence

NUM_SEEDS = 4
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def evidence_of(study, effects, *, spread, shared=0.3, metrics=("caption_loss",)):
    """Return evidence in which every arm has 3 in every metric, plus its effect, an effect of the seed, and noise.

    Args:
        effects: by arm, or by arm and metric.
        shared: the standard deviation of what a seed adds to all arms.
    """
    rng = np.random.default_rng(0)
    seed_effects = rng.normal(0, shared, NUM_SEEDS)
    rows, runs = [], []
    for arm in study.conditions:
        for seed in range(NUM_SEEDS):
            values = {
                metric: 3 + effects.get((arm, metric), effects.get(arm, 0)) + seed_effects[seed] + rng.normal(0, spread)
                for metric in metrics
            }
            milliseconds = values.pop(STEP_TIME, 3)
            runs.append({"arm": arm, "seed": seed, "run": "", "samples": 500, "train_cpu_seconds": milliseconds / 2})
            rows += [(arm, seed, metric, value, "nats/token", "") for metric, value in values.items()]
    return evidence_from(runs, rows)


def evidence_from(runs, metrics):
    """Return evidence of these rows, without curves and examples."""
    return Evidence(
        runs=pd.DataFrame(runs, columns=None if runs else ["arm", "seed", "run"]),
        metrics=pd.DataFrame(metrics, columns=METRIC_COLUMNS),
        not_applicable=pd.DataFrame(columns=METRIC_COLUMNS),
        curves=pd.DataFrame(),
        missing=pd.DataFrame(),
        examples={},
    )


def write_run(cell, runs_dir, value, *, caption="red apple"):
    """Write the folder of a finished run with a chosen caption loss."""
    with RunFolder(runs_dir, cell.name).acquire(cell.config) as attempt:
        manifest = {
            "threads": 1, "hardware": "a test", "commit": "abc", "versions": {"torch": "2"},
            "parameters": {"encoder": 1000, "decoder": 2000}, "train_pairs": 10, "held_out_pairs": 5,
        }  # fmt: skip
        attempt.write_manifest(manifest)
        if cell.config.budget.samples:
            losses = np.linspace(value + 2, value, 5)
            attempt.write_rows(
                {"step": i, "samples": 4 * i, "train_flops": i, "seconds": float(i), "held_out_caption_loss": loss}
                for i, loss in enumerate(losses)
            )
        write_json(
            attempt.folder / "examples.json", [{"key": "k", "reference": "apple", "written": caption, "png": PIXEL}]
        )
        metrics = {
            "caption_loss": Metric(value, "nats/token", "some pairs"),
            "causal_caption_loss": Metric(value, "nats/token", "some pairs"),
            "pixel_loss_0.5": Metric(value / 10, "squared error", "some pairs"),
            "probe_digits": Metric(0.5, "accuracy", "some digits"),
            "knn_digits": Metric(0.4, "accuracy", "some digits"),
            "recall": Metric(None, "accuracy", "not applicable to anything"),
            "bits": Metric(None if cell.arm == "causal" else 1.5, "bits/byte", "some pairs"),
        }
        attempt.publish(metrics, train_flops=100, train_seconds=1.0, train_cpu_seconds=1.0)
