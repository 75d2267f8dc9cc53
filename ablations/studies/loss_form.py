"""Does the form of the pixel loss matter?"""

from ablations.design import Arm, one_factor, setting, unchanged
from ablations.study import Study

STUDY = Study(
    slug="loss_form",
    question="Does the form of the pixel loss matter: mean or sum, per batch or per image, standardised or raw?",
    source="AIMv2 section 2.1 has a sum over a patch's values and a mean over all patches. The released code has a"
    " mean over values and over the batch's scored patches, with the same alpha",
    design=one_factor(
        {
            "released": Arm(label="as released: mean, per batch, standardised", change=unchanged),
            "sum": Arm(label="sum over a patch's values", change=setting({"objective.pixel_values": "sum"})),
            "image": Arm(label="per image, over all I", change=setting({"objective.pixel_patches": "image"})),
            "image_mean": Arm(
                label="per image, over its scored patches", change=setting({"objective.pixel_patches": "image_mean"})
            ),
            "raw": Arm(label="raw targets", change=setting({"objective.pixel_targets": "raw"})),
        }
    ),
    baseline="released",
    primary_metric="caption_loss",
    equivalence_margin=0.02,
    expected={"sum": "worse", "image_mean": "equal"},
)
