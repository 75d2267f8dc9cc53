from aimv2.ablations.design import Arm, one_factor, setting
from aimv2.ablations.expectations import READER
from aimv2.ablations.study import Study

STUDY = Study(
    slug="positions",
    question="Do learned positions differ from sine and cosine, and does the decoder need patch positions?",
    source="AIMv2 section 2.2 and the released code have learned positions, and none for patches in the decoder. AIM v1"
    " and the native-resolution model have sine and cosine. They were never compared. One arm changes the decoder, so"
    " the encoder is compared",
    design=one_factor(
        learned=Arm(label="learned"),
        sincos=setting("sine and cosine", {"model.encoder.positions": "sincos"}),
        decoder=setting("learned, in the decoder too", {"model.decoder.image_positions": True}),
    ),
    baseline="learned",
    primary_metric=READER,
    expected={"sincos": "equal", "decoder": "equal"},
)
