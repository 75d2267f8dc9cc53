"""How deep should the decoder be?"""

from ablations.design import Arm, ladder, scaled
from ablations.study import PROBE, Study, expect

DEPTH = "model.decoder.depth"

STUDY = Study(
    slug="decoder_depth",
    question="Is there a best depth of the decoder, and does a deeper one help?",
    source="AIMv2 Table 9f: 8, 12 and 16 blocks, two thirds, one and four thirds",
    design=ladder(
        {
            "depth_067": Arm(label="2/3 as deep", change=scaled(2 / 3, DEPTH)),
            "depth_100": Arm(label="1 x as deep", change=scaled(1, DEPTH)),
            "depth_133": Arm(label="4/3 as deep", change=scaled(4 / 3, DEPTH)),
        }
    ),
    baseline="depth_100",
    primary_metric="caption_loss",
    smallest_difference=0.02,
    expected={"depth_067": "worse", "depth_133": "equal"},
    claims={
        "decoder-depth-optimum": expect("depth_067", "worse", than="depth_100", metric=PROBE)
        + expect("depth_133", "not better", than="depth_100", metric=PROBE),
    },
)
