"""Searches with known trials, as the JSON that a search writes, and the runs that confirm their winner."""

import numpy as np

from aimv2.ablations.design import setting
from aimv2.ablations.expand import expand
from aimv2.ablations.request import Request
from aimv2.ablations.searches import search_from_json
from aimv2.ablations.study import WINNER, confirmation
from tests.helpers.evidence import write_run
from tests.helpers.specimen import STUDY

LOSS = {"name": "content_loss", "direction": "minimize", "unit": "nats/token"}
FLOPS = {"name": "train_flops", "direction": "minimize", "unit": "FLOPs"}
SPACE = [
    {"name": "objective.pixel_weight", "low": 0.0, "high": 2.0, "log": False},
    {"name": "optimizer.peak_lr", "low": 1e-4, "high": 1e-2, "log": True},
    {"name": "attention", "levels": {"prefix": "prefix attention", "causal": "causal attention"}},
]
BUDGET = 4096


def trial(number, state="finished", *, values=(3.0,), share=1.0, **more):
    """Return a trial; one without a value ends after this share of its budget."""
    values = list(values) if state == "finished" else None
    samples = int(BUDGET * share)
    found = {
        "number": number,
        "state": state,
        "params": {"objective.pixel_weight": 0.5, "optimizer.peak_lr": 1e-3, "attention": "prefix"},
        "values": values,
        "run": f"v2-{number:012x}",
        "curve": [],
        "samples": samples,
        "budget": BUDGET,
        "flops": samples * 1e6,
        "seconds": samples / 100,
        "note": "",
    }
    return found | more


def search_of(trials, *, metrics=(LOSS,), **more):
    """Return the JSON of a search with these trials; its front is found by comparing all pairs."""
    signs = [1 if metric["direction"] == "minimize" else -1 for metric in metrics]
    costs = {
        one["number"]: [sign * value for sign, value in zip(signs, one["values"], strict=True)]
        for one in trials
        if one["state"] == "finished"
    }
    front = [
        number
        for number, own in costs.items()
        if not any(other != own and all(np.less_equal(other, own)) for other in costs.values())
    ]
    front = front[:1] if len(metrics) == 1 else front
    found = {
        "version": 1,
        "study": STUDY.slug,
        "sampler": "tpe",
        "pruner": "asha",
        "seed": 0,
        "split": "validation",
        "metrics": list(metrics),
        "curve": "held_out_caption_loss",
        "space": SPACE,
        "trials": trials,
        "front": front,
        "winner": min(front, key=lambda number: costs[number], default=None),
        "is_baseline": False,
        "importances": {"objective.pixel_weight": 0.6, "optimizer.peak_lr": 0.3, "attention": 0.1},
    }
    return found | more


def typical(number=24, *, metrics=(LOSS,), **more):
    """Return the JSON of a search of many trials of a bowl with its bottom at (0.4, 1e-3), of which half are pruned."""
    rng, trials = np.random.default_rng(0), []
    for place in range(number):
        weight, rate = (0.4, 1e-3) if place == 0 else (rng.uniform(0, 2), 10 ** rng.uniform(-4, -2))
        level = "prefix" if rng.random() < 0.6 else "causal"
        final = 2.3 + 0.2 * (weight - 0.4) ** 2 + 0.3 * (np.log10(rate) + 3) ** 2 + 0.05 * (level == "causal")
        size = rng.uniform(0.5, 2)
        final += rng.normal(0, 0.02) - 0.05 * np.log2(size)
        state = "failed" if place in (9, 17) else "pruned" if place > 3 and final > 2.45 else "finished"
        share = 1.0 if state == "finished" else float(rng.choice([0.125, 0.25, 0.5]))
        samples = np.arange(256, int(BUDGET * share) + 1, 256)
        curve = [[int(at), round(float(final + 4 * np.exp(-at / 700)), 4)] for at in samples]
        params = {"objective.pixel_weight": weight, "optimizer.peak_lr": rate, "attention": level}
        note = {"failed": "text_loss is nan at step 7 | <script>", "pruned": "", "finished": ""}[state]
        one = trial(place, state, values=[curve[-1][1], 1e9 * size][: len(metrics)], share=share, params=params)
        trials.append(one | {"curve": curve, "flops": float(1e9 * size * share), "note": note})
    return search_of(trials, metrics=metrics, **more)


def won_by_the_baseline():
    """Return the JSON of a typical search whose first trial, the baseline, is the best."""
    first, *others = typical()["trials"]
    best = min(one["values"][0] for one in others if one["values"])
    return search_of([first | {"values": [best - 0.1]}, *others], is_baseline=True)


def without_a_finished_trial():
    """Return the JSON of a search of a trial that failed and one that was pruned."""
    return search_of(
        [trial(0, "failed", share=0.5, note="bug: a test"), trial(1, "pruned", share=0.25)], importances={}
    )


def request_of_search(tiny, *, seeds=range(100, 104), has_winner=True, study=STUDY):
    """Return the request of the confirmation of a winner."""
    arms = {study.baseline: study.arms[study.baseline]}
    if has_winner:
        arms[WINNER] = setting("trial 3: optimizer.peak_lr = 0.002", {"optimizer.peak_lr": 0.002})
    search = confirmation(study, arms)
    arguments = (f"sweep={study.slug}", "search=optuna")
    cells = [cell for cell in expand(search, tiny, seeds=seeds) if cell.arm in arms]  # a search has no other arms
    return Request(study=search, cells=cells, arguments=arguments)


def write_confirmation(request, runs_dir, effect=-0.2, *, noise=0.01):
    """Write finished runs in which the winner differs from the baseline by an effect."""
    rng = np.random.default_rng(1)
    for cell in request.cells:
        shared = 0.1 * (cell.seed % 4)
        write_run(cell, runs_dir, 3 + shared + effect * (cell.arm == WINNER) + rng.normal(0, noise), code="c" * 12)


def parsed(values):
    return search_from_json(values, "search.json")
