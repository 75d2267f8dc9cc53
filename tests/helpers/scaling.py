"""Runs drawn from known scaling laws."""

import numpy as np
import pandas as pd

from tests.helpers.evidence import evidence_from

# Published fits; n in parameters, d in tokens, loss in nats per token.
HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "a": 0.34, "b": 0.28}  # arXiv 2203.15556, equation 10
BESIROGLU = {"E": 1.8172, "A": 482.01, "B": 2085.43, "a": 0.3478, "b": 0.3658}  # arXiv 2404.10102, table 1
BESIROGLU_ERRORS = {"E": 0.03, "A": 124.58, "B": 1293.23, "a": 0.02, "b": 0.02}  # their standard errors


def loss_of(law, n, d):
    """Return E + A n^-a + B d^-b."""
    return law["E"] + law["A"] * n ** -law["a"] + law["B"] * d ** -law["b"]


def ladder_runs(law, *, noise=0.0, seed_noise=0.0, num_seeds=3, sizes=4, samples=4, rng=0):
    """Return a ladder of sizes x samples x seeds over the ranges of Hoffmann et al., with relative noise.

    Args:
        noise, seed_noise: standard deviations of the log loss over runs, and of what a seed adds to all settings.
    """
    rng = np.random.default_rng(rng)
    n, d, seed = (
        value.ravel()
        for value in np.meshgrid(
            np.geomspace(5e7, 1.6e10, sizes), np.geomspace(5e9, 5e11, samples), np.arange(num_seeds), indexing="ij"
        )
    )
    shared = rng.normal(0, seed_noise, num_seeds)[seed]
    loss = loss_of(law, n, d) * np.exp(shared + rng.normal(0, noise, len(n)))
    return pd.DataFrame({"n": n, "d": d, "seed": seed, "loss": loss})


def reconstructed_runs(rng, *, noise=0.01):
    """Return 240 runs like those that Besiroglu et al. reconstructed, each a setting of its own, drawn from their law.

    Sizes are 5.7e7 to 1.6e10, tokens per parameter 0.45 to 260, at ten budgets of FLOPs.

    Args:
        noise: relative standard deviation of a run, more below four tokens per parameter, as their residuals have it;
            the default gives b about the standard error that they report.
    """
    rng = np.random.default_rng(rng)
    flops = np.geomspace(5e18, 5e21, 10)
    low = np.maximum(np.sqrt(flops / 6 / 260), 5.7e7)
    high = np.minimum.reduce([np.sqrt(flops / 6 / 0.45), np.full(10, 1.6e10), flops / 6 / 8e8])
    n = np.exp(rng.uniform(np.log(low)[:, None], np.log(high)[:, None], (10, 24))).ravel()
    d = flops.repeat(24) / 6 / n
    error = rng.normal(0, noise * np.maximum(1, 4 * n / d))
    return pd.DataFrame({"n": n, "d": d, "loss": loss_of(BESIROGLU, n, d) * np.exp(error)})


def scaling_evidence(study, law, *, noise=0.01, seed_noise=0.005, num_seeds=3, rng=0):
    """Return evidence of a study of sizes and samples whose loss follows a law and whose probe follows the loss.

    FLOPs are (2e6 + 6 n) d, as if a decoder cost 2e6 a sample.
    """
    generator = np.random.default_rng(rng)
    shared = generator.normal(0, seed_noise, num_seeds)
    runs, metrics = [], []
    for arm in study.arms:
        _, size, _, samples = arm.split("_")
        n, d = 400_000 * (int(size) / 100) ** 2, 20_480 * int(samples) // 100
        for seed in range(num_seeds):
            loss = loss_of(law, n, d) * np.exp(shared[seed] + generator.normal(0, noise))
            runs.append(
                {"arm": arm, "seed": seed, "run": f"{arm}-{seed}", "samples": d, "train_flops": (2e6 + 6 * n) * d}
                | {"encoder_parameters": int(n), "other_parameters": 300_000, "train_pairs": 36_000, "code": "c"}
            )
            metrics.append((arm, seed, study.primary_metric, loss, "nats/token", "", ""))
            metrics.append((arm, seed, "probe_object", 0.9 - 0.1 * loss, "accuracy", "", ""))
    return evidence_from(runs, metrics)
