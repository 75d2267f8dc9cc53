"""The decoder: its width, depth and sharing, and whether images or captions come first."""

from aimv2.ablations.design import Arm, ladder, level, one_factor, setting, widened
from aimv2.ablations.expectations import READER, Ranges, expect
from aimv2.ablations.study import Study

DECODER, DEPTH = "model.decoder", "model.decoder.depth"
DEPTHS = ("depth_067", "base", "depth_133")

DECODER_WIDTH = Study(
    slug="decoder_width",
    question="Is there an optimal decoder width, and is a wider decoder worse?",
    source="AIMv2 Table 9e: widths 512, 1024 and 1536, that is 0.5, 1 and 1.5 times the ViT-L's; it does not give"
    " the number of heads. A larger decoder lowers the caption loss by itself, so the encoder is compared",
    design=ladder(width_050=widened(0.5, DECODER), width_100=widened(1, DECODER), width_150=widened(1.5, DECODER)),
    baseline="width_100",
    primary_metric=READER,
    expected={"width_050": "worse", "width_150": "worse"},
    claims={
        "decoder-width-optimum": expect("width_050", "worse", than="width_100", why="Table 9e, IN-1k: 85.6 to 85.3")
        + expect("width_150", "worse", than="width_100", why="Table 9e, IN-1k: 85.6 to 85.1")
    },
)

DECODER_DEPTH = Study(
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

# A contrast across the two studies above, whose runs it shares. The published widths change the weights of the
# decoder's blocks sixfold and the published depths less than twofold. ``width_082`` and ``width_115`` therefore have
# the same steps in weights as the depths, up to rounding, which is coarse at ``demo``: plan and report give the sizes.
DECODER_SIZE = Study(
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
        depth_067=level("2/3 as deep", 2 / 3, DEPTH),
        depth_133=level("4/3 as deep", 4 / 3, DEPTH),
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

DECODER_SHARING = Study(
    slug="decoder_sharing",
    question="Is one decoder for patches and captions as good as one for each?",
    source="AIMv2 Table 9d, which does not say how the separate decoders are built. Two decoders have more weights, so"
    " the encoder is compared; that one costs less follows from the FLOPs",
    design=one_factor(
        joint=setting("one decoder", {"model.decoder.sharing": "joint"}),
        separate=setting("a decoder for each", {"model.decoder.sharing": "separate"}),
    ),
    baseline="joint",
    primary_metric=READER,
    expected={"separate": "equal"},
    claims={
        "joint-equals-separate-decoder": expect(
            "separate", "not better", than="joint", why="Table 9d, IN-1k: 85.6 and 85.6"
        )
    },
)

CAPTION_ORDER = Study(
    slug="caption_order",
    question="Does image before caption give a better encoder than caption before image?",
    source="AIMv2 section 2.1, stated and never ablated. Caption losses are not comparable, as a caption that comes"
    " first is predicted without the image",
    design=one_factor(
        image_first=setting("image first", {"model.decoder.order": "image_first"}),
        text_first=setting("caption first", {"model.decoder.order": "text_first"}),
    ),
    baseline="image_first",
    primary_metric=READER,
    compares_curves=False,
    expected={"text_first": "worse"},
)
