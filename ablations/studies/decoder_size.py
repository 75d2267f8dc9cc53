"""Width against depth of the decoder: a contrast across ``decoder_width`` and ``decoder_depth``, whose runs it shares.

The published widths change the weights of the decoder's blocks sixfold and the published depths less than twofold.
``width_082`` and ``width_115`` therefore have the same steps in weights as the depths, up to rounding, which is coarse
at ``demo``: the plan and the report give the actual sizes.
"""

from aimv2.ablations.design import Arm, level, one_factor, widened
from aimv2.ablations.expectations import READER, Ranges
from aimv2.ablations.study import Study

DECODER = "model.decoder"
DEPTHS = ("depth_067", "base", "depth_133")

STUDY = Study(
    slug="decoder_size",
    question="Does the encoder depend more on the width of the decoder than on its depth?",
    source="AIMv2 Tables 9e and 9f, over the published levels, and over widths with the same steps in weights as the"
    " depths. A larger decoder lowers the caption loss by itself, so the encoder is compared",
    design=one_factor(
        base=Arm(label="the recipe's decoder"),
        width_050=widened(0.5, DECODER),
        width_082=widened((2 / 3) ** 0.5, DECODER),
        width_115=widened((4 / 3) ** 0.5, DECODER),
        width_150=widened(1.5, DECODER),
        depth_067=level("2/3 as deep", 2 / 3, f"{DECODER}.depth"),
        depth_133=level("4/3 as deep", 4 / 3, f"{DECODER}.depth"),
    ),
    baseline="base",
    primary_metric=READER,
    claims={
        "width-matters-more-than-depth": (
            Ranges(
                name="range over the published widths",
                than_name="range over the published depths",
                range_arms=("width_050", "base", "width_150"),
                than_arms=DEPTHS,
                why="Tables 9e and 9f, IN-1k: 85.1 to 85.6, and 85.5 to 85.6",
            ),
            Ranges(
                name="range over widths with the depths' steps in weights",
                than_name="range over the published depths",
                range_arms=("width_082", "base", "width_115"),
                than_arms=DEPTHS,
                why="not published; else the wider range would only show that the widths lie further apart",
            ),
        )
    },
)
