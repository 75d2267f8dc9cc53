"""Training: learning rates, samples and batches."""

from math import log2
from typing import Any

from aimv2.ablations.design import Arm, factorial, latin_hypercube, samples, switch_objective
from aimv2.ablations.expectations import CONTENT, READER, Combination, expect, gain, minus
from aimv2.ablations.study import Study
from aimv2.config.program import replaced

# The arms are points between the bounds. To tune a recipe, search between them instead:
#
#     python sweeps/launch.py sweep=optimizer search=optuna
#
# and with ``objective.name=clip`` for a rival of ``sweep=objective``.
OPTIMIZER = Study(
    slug="optimizer",
    question="Which learning rate suits the recipe at this scale?",
    source="AIMv2 Table A1: peak rates of 4e-4 to 1e-3 by size; never ablated",
    design=latin_hypercube(
        {"recipe": Arm(label="as in the recipe")}, linear={}, log={"optimizer.peak_lr": (3e-4, 2e-2)}, num_points=6
    ),
    baseline="recipe",
    primary_metric=CONTENT,
)


SAMPLES = {"samples_025": 0.25, "samples_050": 0.5, "samples_100": 1, "samples_200": 2}
SAMPLE_DOUBLINGS = {name: log2(ratio) for name, ratio in SAMPLES.items()}

# All objectives have the recipe's learning rate, as in ``objective``, whose runs at the recipe's samples it shares.
# Captioning has prefix attention, the better one of Table 9a; the paper does not say which one Figure 4 shows.
SAMPLE_EFFICIENCY = Study(
    slug="sample_efficiency",
    question="How many samples do AIMv2, captioning, CLIP and SigLIP need for the same encoder?",
    source="AIMv2 Figure 4 (0.5 to 4 B samples, plotted only) and section 4.1 (12 B samples against 40 B, there on"
    " other data)",
    design=factorial(
        {
            "aimv2": Arm(label="AIMv2"),
            "caption": switch_objective("captioning", "caption", "prefix"),
            "clip": switch_objective("CLIP", "clip", "bidirectional"),
            "siglip": switch_objective("SigLIP", "siglip", "bidirectional"),
        },
        {name: samples(ratio) for name, ratio in SAMPLES.items()},
        names=("objective", "samples"),
        kind="objectives x ladder of samples",
    ),
    baseline="aimv2_samples_100",
    primary_metric=READER,
    expected=dict.fromkeys(("caption_samples_100", "clip_samples_100", "siglip_samples_100"), "worse"),
    claims={
        "aimv2-vs-cap-at-every-scale": (
            *(
                expectation
                for name in SAMPLES
                for expectation in expect(
                    f"aimv2_{name}", "better", than=f"caption_{name}", why="Figure 4, which is plotted only"
                )
            ),
            Combination(
                name="slope over doublings of the samples, AIMv2 minus captioning",
                weights=minus(gain("aimv2", SAMPLE_DOUBLINGS), gain("caption", SAMPLE_DOUBLINGS)),
                relation="better",
                why="Figure 4, which is plotted only",
            ),
        ),
        "fewer-samples-than-contrastive": tuple(
            expectation
            for rival in ("clip", "siglip")
            for samples, than in (("025", "100"), ("050", "200"))  # a ratio at two places of the curve
            for expectation in expect(
                f"aimv2_samples_{samples}",
                "not worse",
                than=f"{rival}_samples_{than}",
                why="Table 3, IN-1k: 86.6 with 12 B samples, and 86.5 with 40 B",
            )
        ),
    },
)

BATCHES = {"batch_100": 1, "batch_200": 2, "batch_400": 4}
BATCH_DOUBLINGS = {name: log2(ratio) for name, ratio in BATCHES.items()}


def batch(ratio: int) -> Arm:
    """Return an arm with the base run's batch size times a ratio, at equal samples."""

    def change(run: Any) -> Any:
        return replaced(run, {"budget.batch_size": run.budget.batch_size * ratio})

    label = "the recipe's batch" if ratio == 1 else f"{ratio} x the batch"
    return Arm(label=label, change=change, ratios={"budget.batch_size": ratio})


# All arms have the recipe's learning rate, as the released configs do: CLIP's with batches of 16k has the rate of
# AIMv2's with 8k. At equal samples a larger batch has fewer steps, for both objectives alike, so slopes are compared.
BATCH_SIZE = Study(
    slug="batch_size",
    question="Does AIMv2 gain as much from larger batches as CLIP does, at equal samples?",
    source="AIMv2 section 1 and Table 9b, which has two batch sizes of CLIP and one of AIMv2",
    design=factorial(
        {"aimv2": Arm(label="AIMv2"), "clip": switch_objective("CLIP", "clip", "bidirectional")},
        {name: batch(ratio) for name, ratio in BATCHES.items()},
        names=("objective", "batch"),
        kind="objectives x ladder of batch sizes",
    ),
    baseline="aimv2_batch_100",
    primary_metric=READER,
    expected={"clip_batch_100": "worse"},
    claims={
        "no-large-batch": (
            Combination(
                name="slope over doublings of the batch, CLIP minus AIMv2",
                weights=minus(gain("clip", BATCH_DOUBLINGS), gain("aimv2", BATCH_DOUBLINGS)),
                relation="better",
                why="Table 9b, IN-1k: 84.6 to 85.2 for CLIP; the paper expects no gain of AIMv2",
            ),
            Combination(
                name="slope over doublings of the batch, AIMv2",
                weights=gain("aimv2", BATCH_DOUBLINGS),
                relation="not better",
                why="section 1; no number is given, so the margin is a point per doubling",
            ),
        )
    },
)
