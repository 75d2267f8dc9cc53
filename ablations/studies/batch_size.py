"""Batch sizes of two objectives at equal samples.

All arms have the recipe's learning rate, as the released configs do: CLIP's with batches of 16k has the rate of AIMv2's
with 8k. At equal samples a larger batch has fewer steps, for both objectives alike, so slopes are compared.
"""

from typing import Any

from aimv2.ablations.design import Arm, factorial, switch_objective
from aimv2.ablations.expectations import READER, Combination, gain, minus
from aimv2.ablations.study import Study
from aimv2.config.program import replaced

RATIOS = {"batch_100": 1, "batch_200": 2, "batch_400": 4}
DOUBLINGS = {"batch_100": 0, "batch_200": 1, "batch_400": 2}


def batch(ratio: int) -> Arm:
    """Return an arm with the base run's batch size times a ratio, at equal samples."""

    def change(run: Any) -> Any:
        return replaced(run, {"budget.batch_size": run.budget.batch_size * ratio})

    label = "the recipe's batch" if ratio == 1 else f"{ratio} x the batch"
    return Arm(label=label, change=change, ratios={"budget.batch_size": ratio})


STUDY = Study(
    slug="batch_size",
    question="Does AIMv2 gain as much from larger batches as CLIP does, at equal samples?",
    source="AIMv2 section 1 and Table 9b, which has two batch sizes of CLIP and one of AIMv2",
    design=factorial(
        {"aimv2": Arm(label="AIMv2"), "clip": switch_objective("CLIP", "clip", "bidirectional")},
        {name: batch(ratio) for name, ratio in RATIOS.items()},
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
                weights=minus(gain("clip", DOUBLINGS), gain("aimv2", DOUBLINGS)),
                relation="better",
                why="Table 9b, IN-1k: 84.6 to 85.2 for CLIP; the paper expects no gain of AIMv2",
            ),
            Combination(
                name="slope over doublings of the batch, AIMv2",
                weights=gain("aimv2", DOUBLINGS),
                relation="not better",
                why="section 1; no number is given, so the margin is a point per doubling",
            ),
        )
    },
)
