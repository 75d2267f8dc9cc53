from aimv2.ablations.design import ladder, level
from aimv2.ablations.expectations import READER, expect
from aimv2.ablations.study import Study

DEPTH = "model.decoder.depth"

STUDY = Study(
    slug="decoder_depth",
    question="Is there an optimal decoder depth, and does a deeper decoder help?",
    source="AIMv2 Table 9f: 8, 12 and 16 blocks, that is 2/3, 1 and 4/3 of the default. A larger decoder lowers the"
    " caption loss by itself, so the encoder is compared",
    design=ladder(
        depth_067=level("2/3 as deep", 2 / 3, DEPTH),
        depth_100=level("1 x as deep", 1, DEPTH),
        depth_133=level("4/3 as deep", 4 / 3, DEPTH),
    ),
    baseline="depth_100",
    primary_metric=READER,
    expected={"depth_067": "worse", "depth_133": "equal"},
    claims={
        "decoder-depth-optimum": expect("depth_067", "worse", than="depth_100", why="Table 9f, IN-1k: 85.6 to 85.5")
        + expect("depth_133", "not better", than="depth_100", why="Table 9f, IN-1k: 85.6 and 85.6")
    },
)
