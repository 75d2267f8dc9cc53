"""Objectives at growing numbers of samples: how many samples does each objective need, and does the lead grow?

All objectives have the recipe's learning rate, as in ``objective``, whose runs at the recipe's samples it shares.
Captioning has prefix attention, the better one of Table 9a; the paper does not say which one Figure 4 shows.
"""

from aimv2.ablations.design import Arm, factorial, samples, switch_objective
from aimv2.ablations.expectations import READER, Combination, Expectation, expect, gain, minus
from aimv2.ablations.study import Study

RATIOS = {"samples_025": 0.25, "samples_050": 0.5, "samples_100": 1, "samples_200": 2}
DOUBLINGS = {"samples_025": -2, "samples_050": -1, "samples_100": 0, "samples_200": 1}


def lead(name: str) -> tuple[Expectation, ...]:
    """Return that AIMv2 is better than captioning at a number of samples."""
    why = "Figure 4, which is plotted only"
    return expect(f"aimv2_{name}", "better", than=f"caption_{name}", why=why)


STUDY = Study(
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
        {name: samples(ratio) for name, ratio in RATIOS.items()},
        names=("objective", "samples"),
        kind="objectives x ladder of samples",
    ),
    baseline="aimv2_samples_100",
    primary_metric=READER,
    expected=dict.fromkeys(("caption_samples_100", "clip_samples_100", "siglip_samples_100"), "worse"),
    claims={
        "aimv2-vs-cap-at-every-scale": (
            *(one for name in RATIOS for one in lead(name)),
            Combination(
                name="slope over doublings of the samples, AIMv2 minus captioning",
                weights=minus(gain("aimv2", DOUBLINGS), gain("caption", DOUBLINGS)),
                relation="better",
                why="Figure 4, which is plotted only",
            ),
        ),
        "fewer-samples-than-contrastive": tuple(
            expectation
            for rival in ("clip", "siglip")
            for expectation in expect(
                "aimv2_samples_025",
                "not worse",
                than=f"{rival}_samples_100",
                why="Table 3, IN-1k: 86.6 with 12 B samples, and 86.5 with 40 B",
            )
        ),
    },
)
