"""Which position embeddings should patches have?"""

from ablations.design import Arm, one_factor, setting, unchanged
from ablations.study import Study

STUDY = Study(
    slug="positions",
    question="Do learned positions differ from sine and cosine, and does the decoder need patch positions?",
    source="AIMv2 section 2.2 and the released code have learned positions, and none for patches in the decoder. AIM v1"
    " and the native-resolution model have sine and cosine. They were never compared",
    design=one_factor(
        {
            "learned": Arm(label="learned", change=unchanged),
            "sincos": Arm(label="sine and cosine", change=setting({"model.encoder.positions": "sincos"})),
            "decoder": Arm(
                label="learned, in the decoder too", change=setting({"model.decoder.image_positions": True})
            ),
        }
    ),
    baseline="learned",
    primary_metric="caption_loss",
    equivalence_margin=0.02,
    expected={"sincos": "equal", "decoder": "equal"},
)
