from ablations.design import one_factor, setting
from ablations.expectations import PROBE, STEP_TIME, expect
from ablations.study import Study

STUDY = Study(
    slug="decoder_sharing",
    question="Is one decoder for patches and captions as good as one for each?",
    source="AIMv2 Table 9d, which does not say how the separate decoders are built",
    design=one_factor(
        joint=setting("one decoder", {"model.decoder.sharing": "joint"}),
        separate=setting("a decoder for each", {"model.decoder.sharing": "separate"}),
    ),
    baseline="joint",
    primary_metric="caption_loss",
    equivalence_margin=0.02,
    expected={"separate": "equal"},
    claims={
        "joint-equals-separate-decoder": expect("separate", "not better", than="joint", metric=(PROBE, "caption_loss"))
        + expect("separate", "worse", than="joint", metric=STEP_TIME),
    },
)
