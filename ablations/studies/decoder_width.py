from aimv2.ablations.design import ladder, widened
from aimv2.ablations.expectations import READER, expect
from aimv2.ablations.study import Study

DECODER = "model.decoder"

STUDY = Study(
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
