"""Evidence and run folders with chosen numbers."""

import numpy as np
import pandas as pd

from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.evidence.tables import METRIC_COLUMNS, MISSING_COLUMNS, Evidence
from aimv2.analysis.judgement.rules import RULES_SINCE
from aimv2.analysis.judgement.sensitivity import MetricSensitivity
from aimv2.analysis.judgement.withheld import ControlOutcome, Reasons
from aimv2.base.files import write_json
from aimv2.definitions.metrics import Metric
from aimv2.runs.record import RunFolder

NUM_SEEDS = 4
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def evidence_of(
    study, effects, *, spread, shared=0.3, metrics=("content_loss",), seeds=range(NUM_SEEDS), rng=0, more=()
):
    """Return evidence in which every arm has 3 in every metric, plus its effect, an effect of the seed, and noise.

    Args:
        effects: by arm, or by arm and metric.
        spread: the standard deviation of the noise, or one for each arm.
        shared: the standard deviation of what a seed adds to all arms.
        more: names of further cells, such as the untrained encoders of arms.
    """
    rng = np.random.default_rng(rng)
    seed_effects = dict(zip(seeds, rng.normal(0, shared, len(seeds)), strict=True))
    rows, runs = [], []
    for arm in [*study.conditions, UNTRAINED, *more]:
        noise = spread.get(arm, spread[study.baseline]) if isinstance(spread, dict) else spread
        for seed in seeds:
            values = {
                metric: 3 + effects.get((arm, metric), effects.get(arm, 0)) + seed_effects[seed] + rng.normal(0, noise)
                for metric in metrics
            }
            run = {"arm": arm, "seed": seed, "run": "", "samples": 500, "train_cpu_seconds": 1.5}
            runs.append(run | {"began": RULES_SINCE})
            rows += [(arm, seed, metric, value, "nats/token", "", "") for metric, value in values.items()]
    return evidence_from(runs, rows)


def evidence_from(runs, metrics, missing=()):
    """Return evidence of these rows, without curves and examples.

    Args:
        missing: arm, seed and whether the run failed.
    """
    return Evidence(
        runs=pd.DataFrame(runs, columns=None if runs else ["arm", "seed", "run"]),
        metrics=pd.DataFrame(metrics, columns=METRIC_COLUMNS),
        not_applicable=pd.DataFrame(columns=METRIC_COLUMNS),
        curves=pd.DataFrame(),
        missing=pd.DataFrame(
            [(arm, seed, "", "a reason", has_failed) for arm, seed, has_failed in missing], columns=MISSING_COLUMNS
        ),
        examples={},
    )


def passed_controls(study):
    """Return controls that passed in every metric that decides."""
    return [
        ControlOutcome(control, metric, "passed", "by assumption")
        for control in study.controls
        for metric in study.deciding_metrics
    ]


def sensitive(*metrics, noise=None):
    """Return the sensitivity of metrics that see every rung."""
    return {metric: MetricSensitivity(metric, f"{metric} sees all rungs", noise=noise) for metric in metrics}


def trusted(study, evidence, *, noise=None, **changed):
    """Return reasons that withhold nothing: all controls passed, and the metrics that decide see every rung."""
    parts = {"controls": passed_controls(study), "sensitivity": sensitive(*study.deciding_metrics, noise=noise)}
    return Reasons(study, evidence, **parts | changed)


def write_run(cell, runs_dir, value, *, caption="red apple", items=None, mixture=None, code=None, attempts=None):
    """Write the folder of a finished run with a chosen loss of content words.

    Args:
        items: the rows of ``items.parquet``: metric, item, total and weight.
        mixture: the realised mixture; None for a run of before there was one.
        code: the digest of its code; None for a run that did not record it.
        attempts: those that the result rests on; None for a run that did not record them.
    """
    with RunFolder(runs_dir, cell.name).acquire(cell.config) as attempt:
        manifest = {
            "threads": 1, "hardware": "a test", "began": RULES_SINCE, "commit": "abc", "versions": {"torch": "2"},
            "parameters": {"encoder": 1000, "decoder": 2000}, "train_pairs": 10, "held_out_pairs": 5,
        }  # fmt: skip
        attempt.write_manifest(manifest if code is None else manifest | {"code": code})
        if cell.config.budget.samples:
            losses = np.linspace(value + 2, value, 5)
            attempt.write_rows(
                [
                    {"step": i, "samples": 4 * i, "train_flops": i, "seconds": float(i), "held_out_caption_loss": loss}
                    for i, loss in enumerate(losses)
                ]
            )
        write_json(
            attempt.folder / "examples.json", [{"key": "k", "reference": "apple", "written": caption, "png": PIXEL}]
        )
        metrics = {
            "content_loss": Metric(value, "nats/token", "some pairs"),
            "causal_content_loss": Metric(value, "nats/token", "some pairs"),
            "pixel_loss_0.5": Metric(value / 10, "squared error", "some pairs"),
            "probe_digits": Metric(0.5, "accuracy", "some digits"),
            "knn_digits": Metric(0.4, "accuracy", "some digits"),
            "image_to_text_recall_1": Metric(None, "accuracy", "not applicable to anything"),
            "caption_bits": Metric(None if cell.arm == "causal" else 1.5, "bits/byte", "some pairs"),
        }
        recorded = {"mixture": mixture, "attempts": attempts}
        more = {key: value for key, value in recorded.items() if value is not None}
        attempt.publish(metrics, train_flops=100, train_seconds=1.0, train_cpu_seconds=1.0, **more)
        if items is not None:
            table = pd.DataFrame(items, columns=["metric", "item", "total", "weight"])
            table.astype({"total": "float32", "weight": "float32"}).to_parquet(attempt.folder / "items.parquet")
