from aimv2.ablations.design import one_factor, setting
from aimv2.ablations.expectations import READER, expect
from aimv2.ablations.study import Study

STUDY = Study(
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
